//! The benchmarks.

use crate::setup::setup;
use crate::shell::{cargo, run};

/// Runs all benchmarks, or only `name`. Each writes its rows to `target/figures`.
pub(crate) fn bench(name: Option<&str>) -> anyhow::Result<()> {
    setup()?;
    let mut command = cargo("bench --package cubie");
    if let Some(name) = name {
        command.args(["--bench", name]);
    }
    run("benchmarks", &mut command)
}
