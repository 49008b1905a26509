//! The kernels, guest images and the peer QEMU, made once from Debian's packages and kept in a cache folder.
//!
//! The folder is `$CUBIE_CACHE`, else `$XDG_CACHE_HOME/cubie`, else `~/.cache/cubie`:
//!
//! ```text
//! apt/                      apt's private state: package lists for arm64, armhf and amd64
//! arm64/ armv7/ amd64/      kernel, version, busybox and lib/modules/VERSION of Debian's kernel packages
//! guest-arm64-HASH.cpio     the guest's initramfs; HASH is of the files that this crate puts into it
//! peer-qemu/                Debian's qemu-system-arm for arm64 with all its libraries
//! ```
//!
//! Each entry is made at the side and renamed when it is complete, under a lock: whatever has its final name
//! is whole, and is used from then on without apt and without a network. To get a newer kernel, delete the folder.
//! Nothing here needs root, and nothing outside the cache folder changes.

mod apt;
pub(crate) mod cpio;
mod elf;
mod guest;
mod modules;
mod peer;
mod system;
mod tools;

pub use cpio::append;
pub use modules::{Module, ModuleTree};
pub use peer::PeerQemu;
pub use tools::{MissingTool, install_tools, missing_tools};

use anyhow::{Context, Result};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// The cache folder.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
}

/// Which of the guest architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestArch {
    /// 32-bit ARM, Debian's armhf with LPAE: AArch32 at EL1.
    Armv7,
    /// 64-bit ARM.
    Arm64,
    /// A PC in the cloud, for guests of other VMMs that use our devices.
    Amd64,
}

/// What the lab boots.
#[derive(Clone, Debug)]
pub struct LabImage {
    /// The raw arm64 `Image`.
    pub kernel: PathBuf,
    /// The folder that holds `lib/modules/VERSION`; see [`ModuleTree`].
    pub modules: PathBuf,
    /// The kernel's release, as `uname -r` says it.
    pub version: String,
    /// busybox for arm64, statically linked.
    pub busybox: PathBuf,
}

/// What a guest boots by default.
#[derive(Clone, Debug)]
pub struct GuestImage {
    /// An arm64 `Image`, an ARM `zImage`, or a PC's `bzImage`.
    pub kernel: PathBuf,
    /// An uncompressed newc archive: packed by gzip it costs the guest 50 to 65 million instructions more.
    pub initrd: PathBuf,
}

impl Cache {
    /// Finds the folder, and makes it when it is not there.
    ///
    /// # Errors
    /// When no place is known for it, or it cannot be made.
    pub fn open() -> Result<Cache> {
        let folder = locate(|name| std::env::var_os(name).map(PathBuf::from))
            .context("set CUBIE_CACHE to a folder for the images: HOME is not set")?;
        Cache::at(&folder)
    }

    fn at(folder: &Path) -> Result<Cache> {
        let folder = std::path::absolute(folder)?;
        fs::create_dir_all(&folder).with_context(|| {
            format!("making the cache folder {} (CUBIE_CACHE)", folder.display())
        })?;
        Ok(Cache { folder })
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.folder
    }

    /// The lab's kernel, prepared when it is not there yet.
    ///
    /// # Errors
    /// When Debian's packages cannot be had.
    pub fn lab(&self) -> Result<LabImage> {
        let system = system::prepare(self, GuestArch::Arm64)?;
        let version = system.version()?;
        Ok(LabImage {
            kernel: system.kernel(),
            busybox: system.busybox(),
            version,
            modules: system.root,
        })
    }

    /// The kernel and initramfs of a guest, prepared when they are not there yet.
    ///
    /// # Errors
    /// When Debian's packages cannot be had.
    pub fn guest(&self, arch: GuestArch) -> Result<GuestImage> {
        let system = system::prepare(self, arch)?;
        let initrd = guest::prepare(self, arch, &system)?;
        Ok(GuestImage { kernel: system.kernel(), initrd })
    }

    /// QEMU for use inside the lab, prepared when it is not there yet.
    ///
    /// # Errors
    /// When Debian's packages cannot be had.
    pub fn peer_qemu(&self) -> Result<PeerQemu> {
        peer::prepare(self)
    }

    /// `folder/name`, made by `make` when it is not there: `make` gets a path at the side to fill.
    fn entry(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let entry = self.folder.join(name);
        if entry.exists() {
            return Ok(entry);
        }
        let _lock = self.lock()?;
        if !entry.exists() {
            let side = tempfile::Builder::new().prefix(SIDE).tempdir_in(&self.folder)?;
            let made = side.path().join(name);
            make(&made).with_context(|| format!("preparing {}", entry.display()))?;
            fs::rename(made, &entry)?;
        }
        Ok(entry)
    }

    /// Waits until nobody else prepares, then clears away what an interrupted run has left.
    fn lock(&self) -> Result<File> {
        let lock = File::create(self.folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                say("waiting for another run that prepares the images");
                lock.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(SIDE.as_bytes()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(lock)
    }

    fn apt(&self) -> Result<apt::Apt> {
        apt::Apt::new(self.folder.join("apt"))
    }
}

/// How the folders begin in which entries are made.
const SIDE: &str = ".making-";

impl GuestArch {
    /// As it is written on command lines: `armv7`, `arm64` or `amd64`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GuestArch::Armv7 => "armv7",
            GuestArch::Arm64 => "arm64",
            GuestArch::Amd64 => "amd64",
        }
    }
}

fn locate(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|path| !path.as_os_str().is_empty());
    set("CUBIE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|caches| caches.join("cubie")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/cubie")))
}

/// One line of progress.
fn say(line: &str) {
    eprintln!("cubie: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(variables: &[(&str, &str)]) -> Option<PathBuf> {
        locate(|name| {
            variables.iter().find(|entry| entry.0 == name).map(|entry| PathBuf::from(entry.1))
        })
    }

    #[test]
    fn the_folder_follows_the_environment() {
        let all = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("CUBIE_CACHE", "/c")];
        assert_eq!(located(&all).unwrap(), Path::new("/c"));
        assert_eq!(located(&all[..2]).unwrap(), Path::new("/x/cubie"));
        assert_eq!(located(&all[..1]).unwrap(), Path::new("/h/.cache/cubie"));
        assert_eq!(
            located(&[("HOME", "/h"), ("CUBIE_CACHE", "")]).unwrap(),
            Path::new("/h/.cache/cubie")
        );
        assert_eq!(located(&[]), None);
    }

    #[test]
    fn an_entry_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let path = cache.entry("x", |path| Ok(fs::write(path, "made")?)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "made");
        let again = cache.entry("x", |_| panic!("made twice")).unwrap();
        assert_eq!(again, path);
    }

    #[test]
    fn a_failed_entry_leaves_only_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let made = cache.entry("x", |path| {
            fs::write(path, "half")?;
            anyhow::bail!("the mirror is down")
        });
        let error = format!("{:#}", made.unwrap_err());
        assert!(error.contains("the mirror is down"), "{error}");
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
    }

    #[test]
    fn what_a_killed_run_left_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(".making-x1");
        fs::create_dir(&left).unwrap();
        Cache::at(folder.path()).unwrap().entry("x", |path| Ok(fs::write(path, "")?)).unwrap();
        assert!(!left.exists());
    }
}
