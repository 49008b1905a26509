//! Why a disk cannot be opened.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::SECTOR_SIZE;

/// Why a disk cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something that has no sectors.
    #[error("disk {path}: is {what}, not a file or a block device", path = path.display())]
    NotADisk {
        /// What was asked for.
        path: PathBuf,
        /// What is there instead.
        what: &'static str,
    },
    /// It can be read, but not written.
    #[error("disk {path}: cannot be written: {source}; add «,ro» to use it read-only", path = path.display())]
    NotWritable {
        /// What was asked for.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// Somebody else writes it, or wants nobody else to.
    #[error(
        "disk {path}: is in use by another VM (or mounted), or given twice; it can be shared where all use it \
         with «,ro»",
        path = path.display()
    )]
    InUse {
        /// What was asked for.
        path: PathBuf,
    },
    /// Its file system has no I/O past the page cache.
    #[error(
        "disk {path}: cannot be read and written past the host's page cache: {source}; leave out «,direct»",
        path = path.display()
    )]
    NotDirect {
        /// What was asked for.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// Not one sector.
    #[error("disk {path}: has {size} bytes, less than a sector of {SECTOR_SIZE}", path = path.display())]
    TooSmall {
        /// What was asked for.
        path: PathBuf,
        /// Bytes.
        size: u64,
    },
    /// The host refused, for instance since nothing is there.
    #[error("disk {path}: {source}", path = path.display())]
    Host {
        /// What was asked for.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
}

impl OpenError {
    /// Blames the mode if reading would have worked.
    pub(super) fn refused(path: &Path, read_only: bool, source: io::Error) -> Self {
        let path = path.to_owned();
        if source.kind() == ErrorKind::ResourceBusy {
            Self::InUse { path }
        } else if !read_only && File::open(&path).is_ok() {
            Self::NotWritable { path, source }
        } else {
            Self::Host { path, source }
        }
    }
}
