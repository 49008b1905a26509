//! What a fresh machine lacks.

use cubie_armlab::images::{self, Cache, GuestArch};

/// Installs the tools, prepares the images. Quick when all is there.
pub(crate) fn setup() -> anyhow::Result<()> {
    let missing = images::missing_tools();
    if !missing.is_empty() {
        images::install_tools(&missing)?;
    }
    let cache = Cache::open()?;
    cache.lab()?;
    for arch in [GuestArch::Armv7, GuestArch::Arm64] {
        cache.guest(arch)?;
    }
    Ok(())
}
