//! The benchmarks.

use crate::figures;
use crate::setup::setup;
use crate::shell::{cargo, run};

/// Runs all benchmarks, or only `name`. Each writes its rows to `target/figures`, from where they go into the README.
pub(crate) fn bench(name: Option<&str>) -> anyhow::Result<()> {
    setup()?;
    let mut command = cargo("bench --package cubie");
    if let Some(name) = name {
        command.args(["--bench", name]);
    }
    run("benchmarks", &mut command)?;
    figures::into_readme()
}
