//! The rings' tests under Miri, which looks at each access to memory.

use crate::setup;
use crate::shell::{nightly, run};

/// No integer becomes a pointer: guest memory is reached by the pointers of its mappings alone.
const FLAGS: &str = "-Zmiri-strict-provenance";

/// Runs the tests of the crates whose `unsafe` Miri can follow; the others live on system calls that
/// it lacks.
pub(crate) fn miri() -> anyhow::Result<()> {
    setup::rust_nightly()?;
    let mut tests = nightly("miri test --package cubie-virtq --all-features");
    run("Miri", tests.env("MIRIFLAGS", FLAGS))
}
