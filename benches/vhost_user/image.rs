//! The bytes of a disk.

use std::fmt;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use tempfile::NamedTempFile;

const PIECE: usize = 1 << 20;

/// Where an image lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// tmpfs.
    Memory,
    /// Wherever the target folder is, past the page cache.
    Disk,
}

impl Place {
    pub(crate) const ALL: [Self; 2] = [Self::Memory, Self::Disk];

    fn folder(self) -> &'static str {
        match self {
            Self::Memory => "/dev/shm",
            Self::Disk => env!("CARGO_TARGET_TMPDIR"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "tmpfs",
            Self::Disk => "disk, direct",
        })
    }
}

/// A file without holes, which is gone with this value.
pub(crate) struct Image {
    file: NamedTempFile,
    place: Place,
}

impl Image {
    /// Bytes of each.
    pub(crate) const LEN: usize = 256 << 20;

    pub(crate) fn new(place: Place) -> anyhow::Result<Self> {
        let file = NamedTempFile::new_in(place.folder()).context(place.folder())?;
        let mut this = Self { file, place };
        for piece in 0..Self::LEN / PIECE {
            this.file.write_all(&vec![piece as u8 | 1; PIECE])?;
        }
        this.file.as_file().sync_all()?;
        Ok(this)
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Whether it is served past the page cache.
    pub(crate) fn is_direct(&self) -> bool {
        self.place == Place::Disk
    }
}
