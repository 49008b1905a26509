//! Debian's own QEMU for arm64, to run beside our VMM inside the lab.

use anyhow::Result;
use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::Cache;

/// An unpacked QEMU with its loader, libraries and firmware.
#[derive(Clone, Debug)]
pub struct PeerQemu {
    /// The folder with Debian's tree in it.
    pub root: PathBuf,
}

const PACKAGES: [&str; 2] = ["qemu-system-arm:arm64", "ipxe-qemu:arm64"];
const LOADER: &str = "lib/ld-linux-aarch64.so.1";
const LIBRARIES: [&str; 2] = ["lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu"];
const QEMU: &str = "usr/bin/qemu-system-aarch64";
/// Firmware and option ROMs: `virt` has a PCI network card by default, and that one has a ROM.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/lib/ipxe/qemu"];

impl PeerQemu {
    /// The start of the command line on an ARM machine that sees the cache folder at the same path, as the
    /// lab does; the options of `qemu-system-aarch64` follow it.
    #[must_use]
    pub fn command(&self) -> Vec<OsString> {
        let at = |path| self.root.join(path).into_os_string();
        let libraries = LIBRARIES.map(at).join(":".as_ref());
        let mut command = vec![at(LOADER), "--library-path".into(), libraries, at(QEMU)];
        for folder in FIRMWARE {
            command.extend(["-L".into(), at(folder)]);
        }
        command
    }
}

pub(super) fn prepare(cache: &Cache) -> Result<PeerQemu> {
    let root = cache.entry("peer-qemu", |root| {
        let apt = cache.apt()?;
        let packages = apt.closure(&PACKAGES)?;
        std::fs::create_dir(root)?;
        apt.unpack(&packages, root)?;
        complete(root)
    })?;
    Ok(PeerQemu { root })
}

/// From Debian 13 on, packages bring `/usr/lib` only, and an installed system has a link to it.
fn complete(root: &Path) -> Result<()> {
    let lib = root.join("lib");
    if !lib.exists() {
        symlink("usr/lib", lib)?;
    }
    for file in [LOADER, QEMU] {
        let file = root.join(file);
        anyhow::ensure!(file.exists(), "Debian's packages hold no {}", file.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn qemu_runs_under_its_own_loader_and_libraries() {
        let command = PeerQemu { root: "/c/peer-qemu".into() }.command();
        let expected = "/c/peer-qemu/lib/ld-linux-aarch64.so.1 --library-path \
                        /c/peer-qemu/lib/aarch64-linux-gnu:/c/peer-qemu/usr/lib/aarch64-linux-gnu \
                        /c/peer-qemu/usr/bin/qemu-system-aarch64 \
                        -L /c/peer-qemu/usr/share/qemu -L /c/peer-qemu/usr/lib/ipxe/qemu";
        assert_eq!(command.join(" ".as_ref()), *expected);
    }

    #[test]
    fn a_tree_without_lib_gets_a_link() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["usr/lib", "usr/bin"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("usr").join(LOADER), "").unwrap();
        fs::write(root.path().join(QEMU), "").unwrap();
        complete(root.path()).unwrap();
        assert!(root.path().join(LOADER).exists());
    }

    #[test]
    fn a_tree_without_qemu_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        complete(root.path()).unwrap_err();
    }
}
