//! A Debian kernel with its modules, and busybox: what both the lab and the guests are made of.

use anyhow::{Context, Result, bail};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Cache, GuestArch};

/// An unpacked kernel package and busybox.
pub(super) struct System {
    /// Holds `kernel`, `version`, `busybox` and `lib/modules/VERSION`.
    pub(super) root: PathBuf,
}

impl System {
    pub(super) fn kernel(&self) -> PathBuf {
        self.root.join("kernel")
    }

    pub(super) fn busybox(&self) -> PathBuf {
        self.root.join("busybox")
    }

    /// The kernel's release, such as `6.1.0-50-arm64`.
    pub(super) fn version(&self) -> Result<String> {
        let file = self.root.join("version");
        fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
    }
}

impl GuestArch {
    /// Debian's name for the architecture, and its package that depends on the newest kernel.
    fn debian(self) -> (&'static str, &'static str) {
        match self {
            GuestArch::Armv7 => ("armhf", "linux-image-armmp-lpae"),
            GuestArch::Arm64 => ("arm64", "linux-image-arm64"),
            GuestArch::Amd64 => ("amd64", "linux-image-cloud-amd64"),
        }
    }
}

pub(super) fn prepare(cache: &Cache, arch: GuestArch) -> Result<System> {
    let root = cache.entry(arch.name(), |root| make(cache, arch, root))?;
    Ok(System { root })
}

fn make(cache: &Cache, arch: GuestArch, root: &Path) -> Result<()> {
    let (debian, newest) = arch.debian();
    let apt = cache.apt()?;
    let kernel = apt.dependency(&format!("{newest}:{debian}"), "linux-image-")?;
    let version = kernel.trim_start_matches("linux-image-").to_owned();
    let packages = [format!("{kernel}:{debian}"), format!("busybox-static:{debian}")];
    let unpacked = root.with_extension("packages");
    fs::create_dir(&unpacked)?;
    fs::create_dir_all(root.join("lib/modules"))?;
    apt.unpack(&packages, &unpacked)?;
    let modules = first_of(&unpacked, &["lib/modules", "usr/lib/modules"], &version)?;
    fs::rename(modules, root.join("lib/modules").join(&version))?;
    fs::rename(first_of(&unpacked, &["bin", "usr/bin"], "busybox")?, root.join("busybox"))?;
    let image = unpacked.join("boot").join(format!("vmlinuz-{version}"));
    let image = fs::read(&image).with_context(|| format!("reading {}", image.display()))?;
    fs::write(root.join("kernel"), unpacked_image(image)?)?;
    fs::write(root.join("version"), version)?;
    Ok(())
}

/// `name` in the first of `folders` that has it: Debian moves from `/lib` to `/usr/lib`.
fn first_of(root: &Path, folders: &[&str], name: &str) -> Result<PathBuf> {
    let paths = folders.iter().map(|folder| root.join(folder).join(name));
    let Some(path) = paths.into_iter().find(|path| path.exists()) else {
        bail!("the packages hold no {}/{name}", folders[0]);
    };
    Ok(path)
}

/// A kernel that QEMU and we can start: arm64 kernels may come as `Image.gz`.
fn unpacked_image(image: Vec<u8>) -> Result<Vec<u8>> {
    if !image.starts_with(&[0x1f, 0x8b]) {
        return Ok(image);
    }
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(image.as_slice()).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_compressed_kernel_is_unpacked_and_others_are_left_alone() {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(b"MZ kernel").unwrap();
        assert_eq!(unpacked_image(packer.finish().unwrap()).unwrap(), b"MZ kernel");
        assert_eq!(unpacked_image(b"MZ kernel".to_vec()).unwrap(), b"MZ kernel");
    }
}
