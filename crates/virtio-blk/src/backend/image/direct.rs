//! Past the host's page cache.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;

use cubie_virtq::Segments;
use nix::fcntl::OFlag;
use rustix::fs::{AtFlags, StatxFlags, statx};

/// Enough for every disk, where the host does not say (Linux, statx(2), `STATX_DIOALIGN`, since 6.1).
const ENOUGH: u32 = 4096;

/// A file that is read and written past the page cache, where all is aligned as its disk wants it.
#[derive(Debug)]
pub(super) struct Direct {
    pub(super) file: File,
    /// Buffers begin at multiples of this; a power of two.
    memory: usize,
    /// Positions and lengths are multiples of this; a power of two.
    offset: u64,
}

impl Direct {
    /// The same file as `file`, opened once more.
    pub(super) fn open(file: &File, read_only: bool) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut options = File::options();
        options.read(true).write(!read_only).custom_flags(OFlag::O_DIRECT.bits());
        let file = options.open(path)?;
        let asked = statx(file.as_fd(), "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
        let told = asked.ok().filter(|told| told.stx_mask & StatxFlags::DIOALIGN.bits() != 0);
        let (memory, offset) = told
            .map_or((ENOUGH, ENOUGH), |told| (told.stx_dio_mem_align, told.stx_dio_offset_align));
        if memory == 0 || offset == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { file, memory: memory as usize, offset: offset.into() })
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
}
