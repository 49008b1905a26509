//! The outer machine's files, at the same paths.
//!
//! The outer root is mounted at `/outer`. Folders of programs and of the kernel stay the lab's own, since the
//! outer ones are of another architecture or of another kernel; every other one is bound to its own path.

use rustix::mount::mount_bind;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Where the init script has mounted the outer root.
const OUTER: &str = "/outer";

/// What the lab does not take from outside.
const OWN: [&str; 15] = [
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr",
    "/usr/bin",
    "/usr/sbin",
    "/dev",
    "/etc",
    "/outer",
    "/proc",
    "/run",
    "/sys",
];

/// The paths that are visible so far.
#[derive(Debug, Default)]
pub(crate) struct Outer {
    exposed: Mutex<BTreeSet<PathBuf>>,
}

impl Outer {
    /// Makes visible what has appeared outside since the last call.
    pub(crate) fn expose(&self) -> io::Result<()> {
        let mut exposed = self.exposed.lock().unwrap_or_else(PoisonError::into_inner);
        for folder in ["/", "/usr"] {
            let outside = PathBuf::from(format!("{OUTER}{folder}"));
            for entry in fs::read_dir(outside)? {
                let entry = entry?;
                let path = Path::new(folder).join(entry.file_name());
                if !OWN.iter().any(|own| Path::new(own) == path) && !exposed.contains(&path) {
                    if let Err(error) = show(&entry, &path) {
                        // Such as a folder that QEMU's user may not enter: not worth losing the others.
                        eprintln!("armlab-agent: {} is not visible: {error}", path.display());
                    }
                    exposed.insert(path);
                }
            }
        }
        Ok(())
    }
}

fn show(outside: &fs::DirEntry, path: &Path) -> io::Result<()> {
    let kind = outside.file_type()?;
    if kind.is_dir() {
        fs::create_dir_all(path)?;
        mount_bind(outside.path(), path)?;
    } else if kind.is_symlink() {
        symlink(fs::read_link(outside.path())?, path)?;
    } else {
        symlink(outside.path(), path)?;
    }
    Ok(())
}
