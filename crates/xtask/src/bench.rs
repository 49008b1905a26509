//! The benchmarks.

use crate::figures;
use crate::setup::setup;
use crate::shell::{cargo, run};

/// The benchmark of the virtqueues: runs once more with fat LTO. Users of a library build without.
const RINGS: &str = "rings";
/// Those that need no lab.
const NATIVE: [&str; 3] = [RINGS, "net_device", "vhost_user"];

/// Runs all benchmarks, or only `name`. Each writes its rows to `target/figures`, from where they go into the
/// READMEs.
pub(crate) fn bench(name: Option<&str>) -> anyhow::Result<()> {
    if !name.is_some_and(|name| NATIVE.contains(&name)) {
        setup()?;
    }
    let mut command = cargo("bench --package cubie");
    if let Some(name) = name {
        command.args(["--bench", name]);
    }
    run("benchmarks", &mut command)?;
    if name.is_none_or(|name| name == RINGS) {
        let mut command = cargo("bench --package cubie --bench");
        command.arg(RINGS).env("CARGO_PROFILE_BENCH_LTO", "fat");
        run("benchmark of the rings with fat LTO", &mut command)?;
    }
    figures::into_readmes()
}
