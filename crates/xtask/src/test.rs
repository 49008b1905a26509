//! The one test command.

use crate::setup::setup;
use crate::shell::{ARM, cargo, run};

/// Native tests; then, `with_lab`, the suites that need ARM KVM.
pub(crate) fn test(with_lab: bool) -> anyhow::Result<()> {
    if !with_lab {
        let others = "test --workspace --all-features --exclude cubie-armlab";
        run("native tests", &mut cargo(others))?;
        return run("native tests of the lab", &mut cargo("test --package cubie-armlab --lib"));
    }
    setup()?;
    run("native tests", &mut cargo("test --workspace --all-features"))?;
    let example = format!("build --release --target {ARM} --example cubietruck-vm");
    run("the example for ARM", &mut cargo(&example))?;
    // One guest at a time: two would only take each other's time.
    let packages = "-p cubie-arm-kvm -p cubie-armlab -p cubie";
    let args = format!("test --release --target {ARM} {packages} --tests -- --test-threads=1");
    // Many guests boot in one test binary, more than the quarter of an hour that a run usually has.
    let seconds = if std::env::var_os("CUBIE_LONG").is_some() { "14400" } else { "1800" };
    run("tests on ARM KVM", cargo(&args).env("ARMLAB_TIMEOUT", seconds))
}
