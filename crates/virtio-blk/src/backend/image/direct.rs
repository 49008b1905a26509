//! Past the host's page cache.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::{Mutex, PoisonError};

use cubie_virtq::Segments;
use nix::fcntl::OFlag;
use rustix::fs::{AtFlags, StatxFlags, statx};

/// Enough for every disk, where the host does not say (Linux, statx(2), `STATX_DIOALIGN`, since 6.1).
const ENOUGH: u32 = 4096;

/// Bytes that are copied at once of what is not aligned; a multiple of every disk's block.
const PIECE: usize = 1 << 20;

/// A file that is read and written past the page cache, and never through it: the cache would write back blocks
/// that have changed behind it.
#[derive(Debug)]
pub(super) struct Direct {
    pub(super) file: File,
    /// Buffers begin at multiples of this; a power of two.
    memory: usize,
    /// Positions and lengths are multiples of this; a power of two.
    offset: u64,
    /// Held while a block is read, changed in a part, and written: another part of it is not to change meanwhile.
    partly: Mutex<()>,
}

impl Direct {
    /// The same file as `file`, opened once more.
    ///
    /// # Errors
    /// When its file system has no such I/O, or the last block of its `size` bytes is not whole.
    pub(super) fn open(file: &File, size: u64, read_only: bool) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut options = File::options();
        options.read(true).write(!read_only).custom_flags(OFlag::O_DIRECT.bits());
        let file = options.open(path)?;
        let asked = statx(file.as_fd(), "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
        let told = asked.ok().filter(|told| told.stx_mask & StatxFlags::DIOALIGN.bits() != 0);
        let (memory, offset) = told
            .map_or((ENOUGH, ENOUGH), |told| (told.stx_dio_mem_align, told.stx_dio_offset_align));
        if memory == 0 || offset == 0 {
            return Err(ErrorKind::Unsupported.into());
        }
        let (memory, offset) = (memory as usize, u64::from(offset));
        if !size.is_multiple_of(offset) {
            let why = format!("its size is not a multiple of {offset} bytes");
            return Err(io::Error::new(ErrorKind::InvalidInput, why));
        }
        Ok(Self { file, memory, offset, partly: Mutex::new(()) })
    }

    /// Whether all of it is aligned.
    pub(super) fn suits(&self, data: &Segments, offset: u64) -> bool {
        let aligned = |at: usize, to: usize| at & (to - 1) == 0;
        let whole = self.offset as usize;
        offset & (self.offset - 1) == 0
            && data.iovecs().iter().all(|piece| {
                aligned(piece.iov_base as usize, self.memory) && aligned(piece.iov_len, whole)
            })
    }

    /// Reads what does not suit, through a buffer that does.
    pub(super) fn read(&self, data: &mut Segments, mut offset: u64) -> io::Result<()> {
        let mut buffer = self.buffer(data.len());
        while !data.is_empty() {
            let (start, skip) = self.block(offset);
            let wanted = (skip + data.len()).next_multiple_of(self.offset as usize);
            let buffer = buffer.bytes(wanted.min(PIECE));
            let got = self.read_at(buffer, start)?;
            let moved = data.write(buffer[..got].get(skip..).unwrap_or_default());
            if moved == 0 {
                // The file has become shorter than it was.
                return Err(ErrorKind::UnexpectedEof.into());
            }
            offset += moved as u64;
        }
        Ok(())
    }

    /// Writes what does not suit, through a buffer that does.
    pub(super) fn write(&self, data: &mut Segments, mut offset: u64) -> io::Result<()> {
        let whole = self.offset as usize;
        let (_, before) = self.block(offset);
        let parts = before != 0 || !data.len().is_multiple_of(whole);
        let _turn = parts.then(|| self.partly.lock().unwrap_or_else(PoisonError::into_inner));
        let mut buffer = self.buffer(data.len());
        while !data.is_empty() {
            let (start, skip) = self.block(offset);
            let count = data.len().min(PIECE - skip);
            let buffer = buffer.bytes((skip + count).next_multiple_of(whole));
            if skip != 0 {
                self.read_at(&mut buffer[..whole], start)?;
            }
            let last = buffer.len() - whole;
            if !(skip + count).is_multiple_of(whole) && (last > 0 || skip == 0) {
                self.read_at(&mut buffer[last..], start + last as u64)?;
            }
            data.read(&mut buffer[skip..skip + count]);
            self.file.write_all_at(buffer, start)?;
            offset += count as u64;
        }
        Ok(())
    }

    /// Where the block of `offset` begins, and how far into it that is.
    fn block(&self, offset: u64) -> (u64, usize) {
        let into = offset & (self.offset - 1);
        (offset - into, into as usize)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// For so many bytes, at any position, or a piece of them.
    fn buffer(&self, len: usize) -> Aligned {
        let blocks = len.saturating_add(2 * self.offset as usize).min(PIECE);
        let align = self.memory.max(self.offset as usize);
        Aligned { bytes: vec![0; blocks + 2 * align], align }
    }
}

/// Memory that begins at a multiple of `align`.
struct Aligned {
    bytes: Vec<u8>,
    align: usize,
}

impl Aligned {
    fn bytes(&mut self, len: usize) -> &mut [u8] {
        let start = self.bytes.as_ptr().align_offset(self.align);
        &mut self.bytes[start..][..len]
    }
}
