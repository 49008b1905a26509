//! The guest that one gets without naming a kernel.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cubie::vmm::Arch;
use cubie::vmm::loader::{KERNEL_LIMIT, read_file, unpack_zimage};
use cubie_armlab::images::{Cache, GuestArch, GuestImage};

/// Installs what is missing, prepares Debian's kernel and the small shell; quick when all is there.
pub(crate) fn prepare(arch: Arch) -> anyhow::Result<GuestImage> {
    let cache = Cache::open()?;
    match arch {
        Arch::Arm64 => cache.guest(GuestArch::Arm64),
        Arch::Armv7 => {
            let image = cache.guest(GuestArch::Armv7)?;
            let kernel = unpacked(&cache, &image.kernel)?;
            Ok(GuestImage { kernel, ..image })
        }
    }
}

/// QEMU and the kernel of the emulated board, for a machine without ARM KVM.
#[cfg(not(target_arch = "aarch64"))]
pub(crate) fn prepare_lab() -> anyhow::Result<()> {
    use cubie_armlab::images::{install_tools, missing_tools};
    let missing = missing_tools();
    if !missing.is_empty() {
        install_tools(&missing)?;
    }
    Cache::open()?.lab().map(drop)
}

/// The zImage's payload beside it: unpacked once, not at each start and never by the guest.
fn unpacked(cache: &Cache, zimage: &Path) -> anyhow::Result<PathBuf> {
    let image = zimage.with_file_name("Image");
    if !image.exists() {
        eprintln!("cubietruck-vm: unpacking the ARMv7 kernel, once");
        let bytes = read_file("--kernel", zimage, KERNEL_LIMIT)?;
        let raw = unpack_zimage(&bytes).context("Debian's zImage")?;
        let part = tempfile::NamedTempFile::new_in(cache.dir())?;
        fs::write(part.path(), raw)?;
        part.persist(&image)?;
    }
    Ok(image)
}
