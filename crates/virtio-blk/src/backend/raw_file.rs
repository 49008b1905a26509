//! A file or block device of the host, byte for byte.

use std::fs::{self, File, FileType, Metadata, TryLockError};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cubie_virtq::Segments;
use nix::fcntl::OFlag;
use nix::sys::stat::{major, minor};

use super::BlockBackend;
use crate::{Completion, Operation, Request, SECTOR_SIZE};

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

/// A disk whose bytes are those of a file or a block device.
///
/// Every request is finished at once, on the worker's thread, by `preadv` and `pwritev` through the
/// host's page cache. The size is taken when it is opened.
///
/// As long as this value lives, it holds a lock (`flock`) on what it has opened: nobody else's `RawFile`
/// gets a disk that one of them writes, since two guests would destroy each other's file system. A block
/// device that is written must not be mounted either.
#[derive(Debug)]
pub struct RawFile {
    file: File,
    size: u64,
    read_only: bool,
}

impl RawFile {
    /// Opens `path`, for reading only if so asked. Bytes behind the last whole sector are left out, with a
    /// warning in the log.
    pub fn open(path: impl AsRef<Path>, read_only: bool) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let host = |source| OpenError::Host { path: path.into(), source };
        // Before it is opened: opening a pipe would wait for its other end.
        let metadata = fs::metadata(path).map_err(host)?;
        if let Some(what) = not_a_disk(metadata.file_type()) {
            return Err(OpenError::NotADisk { path: path.into(), what });
        }
        if !read_only && is_write_protected(&metadata) {
            let source = ErrorKind::ReadOnlyFilesystem.into();
            return Err(OpenError::NotWritable { path: path.into(), source });
        }
        let mut options = File::options();
        options.read(true).write(!read_only);
        if !read_only && metadata.file_type().is_block_device() {
            // Refuses one that is mounted, or somebody else's in the same way (open(2)).
            options.custom_flags(OFlag::O_EXCL.bits());
        }
        let opened = options.open(path);
        let mut file = opened.map_err(|source| refused(path, read_only, source))?;
        lock(&file, read_only).map_err(|InUse| OpenError::InUse { path: path.into() })?;
        // Unlike the length in its metadata, the end can be asked for of block devices as well.
        let size = file.seek(SeekFrom::End(0)).map_err(host)?;
        if size < SECTOR_SIZE {
            return Err(OpenError::TooSmall { path: path.into(), size });
        }
        let left = size % SECTOR_SIZE;
        if left != 0 {
            tracing::warn!(path = %path.display(), left, "the guest does not see the last bytes of a disk: they do not fill a sector");
        }
        Ok(Self { file, size, read_only })
    }

    /// Moves all of `data` by `step`, which says how many bytes it has moved.
    fn transfer<'a>(
        &self,
        mut data: Segments<'a>,
        mut offset: u64,
        step: fn(&mut Segments<'a>, BorrowedFd<'_>, u64) -> io::Result<usize>,
    ) -> io::Result<()> {
        while !data.is_empty() {
            match step(&mut data, self.file.as_fd(), offset) {
                // The file has become shorter than it was.
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => offset += count as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl BlockBackend for RawFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn submit(&mut self, mut request: Request) -> Option<Completion> {
        let operation = request.operation();
        let data = request.data();
        let result = match operation {
            Operation::Read { offset } => self.transfer(data, offset, Segments::read_from_at),
            Operation::Write { offset, through } => {
                let written = self.transfer(data, offset, Segments::write_to_at);
                written.and_then(|()| if through { self.file.sync_data() } else { Ok(()) })
            }
            Operation::Flush => self.file.sync_data(),
        };
        Some(request.finish(result))
    }
}

fn not_a_disk(kind: FileType) -> Option<&'static str> {
    match () {
        () if kind.is_file() || kind.is_block_device() => None,
        () if kind.is_dir() => Some("a directory"),
        () if kind.is_char_device() => Some("a character device"),
        () if kind.is_fifo() => Some("a pipe"),
        () => Some("a socket"),
    }
}

/// A block device that is read-only can be opened for writing all the same, and then fails each write;
/// sysfs knows better (Linux, `Documentation/ABI/stable/sysfs-block`).
fn is_write_protected(metadata: &Metadata) -> bool {
    let number = metadata.rdev();
    let path = format!("/sys/dev/block/{}:{}/ro", major(number), minor(number));
    metadata.file_type().is_block_device()
        && fs::read(path).is_ok_and(|flag| flag.first() == Some(&b'1'))
}

/// Another open file has a lock that excludes this one's.
struct InUse;

/// Locks `file` until it is closed: for itself, or for all that only read it. A file system without locks
/// is no reason to refuse a disk.
fn lock(file: &File, read_only: bool) -> Result<(), InUse> {
    match if read_only { file.try_lock_shared() } else { file.try_lock() } {
        Err(TryLockError::WouldBlock) => Err(InUse),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// Blames the mode if reading would have worked.
fn refused(path: &Path, read_only: bool, source: io::Error) -> OpenError {
    let path = path.to_owned();
    if source.kind() == ErrorKind::ResourceBusy {
        OpenError::InUse { path }
    } else if !read_only && File::open(&path).is_ok() {
        OpenError::NotWritable { path, source }
    } else {
        OpenError::Host { path, source }
    }
}
