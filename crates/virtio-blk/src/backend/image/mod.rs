//! A file or block device of the host, opened and locked.

mod direct;
mod holes;
mod lock;
mod open_error;
mod queue;

use std::fs::{self, File, FileType};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cubie_virtq::Segments;
use nix::fcntl::OFlag;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use crate::{Operation, Request, SECTOR_SIZE, Topology};
use direct::Direct;
use lock::{InUse, lock};
use queue::Queue;

pub(super) use holes::{PUNCH, is_refusal, zeroing};
pub use open_error::OpenError;

/// How an [`Image`] is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// For reading only.
    pub read_only: bool,
    /// Past the host's page cache (`O_DIRECT`). What is not aligned as the disk wants it is copied, and waited for.
    pub direct: bool,
}

/// A file or block device of the host that is some guest's disk, byte for byte. Clones are the same open file,
/// for the backends of several queues.
///
/// The size is taken when it is opened. As long as there is a clone, it is locked in QEMU's way: neither another
/// `Image` nor a QEMU gets a disk that one of them writes, since two guests would destroy each other's file system.
/// A block device that is written must not be mounted either.
#[derive(Clone, Debug)]
pub struct Image(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    file: File,
    direct: Option<Direct>,
    /// The host has lost writes that were answered.
    lost: AtomicBool,
    size: u64,
    read_only: bool,
    can_discard: bool,
    in_memory: bool,
    topology: Topology,
}

impl Image {
    /// Opens `path`. Bytes behind the last whole sector are left out, with a warning in the log.
    ///
    /// # Errors
    /// When there is no disk, or somebody else's.
    pub fn open(path: impl AsRef<Path>, options: ImageOptions) -> Result<Self, OpenError> {
        let (path, read_only) = (path.as_ref(), options.read_only);
        let host = |source| OpenError::Host { path: path.into(), source };
        // Before it is opened: opening a pipe would wait for its other end.
        let metadata = fs::metadata(path).map_err(host)?;
        if let Some(what) = not_a_disk(metadata.file_type()) {
            return Err(OpenError::NotADisk { path: path.into(), what });
        }
        let queue = Queue::of(&metadata);
        if !read_only && queue.as_ref().is_some_and(Queue::is_write_protected) {
            let source = ErrorKind::ReadOnlyFilesystem.into();
            return Err(OpenError::NotWritable { path: path.into(), source });
        }
        let opened = open_file(path, read_only, queue.is_some());
        let mut file = opened.map_err(|source| OpenError::refused(path, read_only, source))?;
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
        let direct = options.direct.then(|| Direct::open(&file, size, read_only)).transpose();
        let direct = direct.map_err(|source| OpenError::NotDirect { path: path.into(), source })?;
        let can_discard = queue.as_ref().is_none_or(Queue::can_discard);
        // A block device's node lies in a tmpfs as well, and its bytes do not.
        let in_memory = queue.is_none() && is_tmpfs(&file);
        let topology = match queue {
            Some(queue) => queue.topology(),
            // What its file system calls a block, but no larger than others know them.
            None => Topology { physical: metadata.blksize().clamp(512, 4096) as u32, best: 0 },
        };
        let lost = AtomicBool::new(false);
        Ok(Self(Arc::new(Opened {
            file,
            direct,
            lost,
            size,
            read_only,
            can_discard,
            in_memory,
            topology,
        })))
    }

    pub(crate) fn size(&self) -> u64 {
        self.0.size
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.0.read_only
    }

    pub(crate) fn can_discard(&self) -> bool {
        self.0.can_discard
    }

    /// Whether there is no disk behind it that a read could wait for, but swap at most.
    pub(super) fn is_in_memory(&self) -> bool {
        self.0.in_memory
    }

    pub(crate) fn topology(&self) -> Topology {
        self.0.topology
    }

    /// Carries out a request, or what is left of a read or a write, whose data goes on at `offset`. Waits for the
    /// disk.
    pub(super) fn carry_out(&self, request: &mut Request, offset: u64) -> io::Result<()> {
        let Opened { file, .. } = &*self.0;
        let operation = request.operation();
        let data = request.data();
        match operation {
            Operation::Read { .. } => {
                self.transfer(data, offset, Segments::read_from_at, Direct::read)
            }
            Operation::Write { through, .. } => {
                self.transfer(data, offset, Segments::write_to_at, Direct::write)?;
                self.sync_if(through)
            }
            Operation::Flush => self.sync_if(true),
            Operation::Discard { offset, len } => holes::discard(file, offset, len),
            Operation::WriteZeroes { offset, len, unmap, through } => {
                holes::write_zeroes(file, offset, len, unmap)?;
                self.sync_if(through)
            }
        }
    }

    fn sync_if(&self, through: bool) -> io::Result<()> {
        if !through {
            return Ok(());
        }
        self.has_kept()?;
        self.note_sync(self.0.file.sync_data())
    }

    /// Hears how what was to bring all writes to stable storage has ended.
    pub(super) fn note_sync(&self, result: io::Result<()>) -> io::Result<()> {
        if result.as_ref().is_err_and(|error| error.kind() != ErrorKind::Interrupted) {
            self.0.lost.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Whether all that was answered can still be brought to stable storage. Linux says only once that it cannot,
    /// and takes the pages for written then (fsync(2)): from there on nothing is promised any more.
    ///
    /// # Errors
    /// When it cannot.
    pub(super) fn has_kept(&self) -> io::Result<()> {
        match self.0.lost.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(io::Error::other("the host has lost writes before")),
        }
    }

    /// Moves all of `data` by `step`, which says how many bytes it has moved, or by `copy` what is not aligned.
    fn transfer<'a>(
        &self,
        mut data: Segments<'a>,
        mut offset: u64,
        step: fn(&mut Segments<'a>, BorrowedFd<'_>, u64) -> io::Result<usize>,
        copy: fn(&Direct, &mut Segments<'a>, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        while !data.is_empty() {
            let file = match &self.0.direct {
                Some(direct) if !direct.suits(&data, offset) => {
                    return copy(direct, &mut data, offset);
                }
                Some(direct) => &direct.file,
                None => &self.0.file,
            };
            match step(&mut data, file.as_fd(), offset) {
                // The file has become shorter than it was.
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => offset += count as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Moves what of a read's or a write's data can be moved without waiting for a disk, and says whether that was
    /// all; `offset` goes on behind it.
    ///
    /// # Errors
    /// `Unsupported` when the file system does not tell what that is.
    pub(super) fn move_now(&self, request: &mut Request, offset: &mut u64) -> io::Result<bool> {
        let step = match request.operation() {
            Operation::Read { .. } => Segments::read_from_at_now,
            _ => Segments::write_to_at_now,
        };
        let mut data = request.data();
        while !data.is_empty() {
            match step(&mut data, self.0.file.as_fd(), *offset) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => *offset += count as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Whether `data` is moved to or from `offset` past the page cache: `None` when it is not aligned for that.
    pub(super) fn is_direct(&self, data: &Segments, offset: u64) -> Option<bool> {
        match &self.0.direct {
            None => Some(false),
            Some(direct) => direct.suits(data, offset).then_some(true),
        }
    }

    /// The file for flushes and places,
    pub(super) fn file(&self) -> &File {
        &self.0.file
    }

    /// and the one for data.
    pub(super) fn data_file(&self) -> &File {
        self.0.direct.as_ref().map_or(&self.0.file, |direct| &direct.file)
    }
}

fn open_file(path: &Path, read_only: bool, is_device: bool) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(!read_only);
    if !read_only && is_device {
        // Refuses one that is mounted, or somebody else's in the same way (open(2)).
        options.custom_flags(OFlag::O_EXCL.bits());
    }
    options.open(path)
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

fn is_tmpfs(file: &File) -> bool {
    fstatfs(file).is_ok_and(|told| told.filesystem_type() == TMPFS_MAGIC)
}
