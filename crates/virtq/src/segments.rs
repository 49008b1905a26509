//! The buffers of a chain, without a copy.
#![expect(
    unsafe_code,
    reason = "iovecs into guest memory are handed to the kernel and copied from"
)]

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use vm_memory::volatile_memory::VolatileSlice;

/// `readv` and its relatives take at most this many pieces at once (`IOV_MAX`).
pub(crate) const MOST_IOVECS: usize = 1024;

/// Guest memory in pieces, read or written from the front.
///
/// A cursor: what [`Segments::read`], [`Segments::write`] or [`Segments::consume`] have passed is gone,
/// and the system calls go on behind it. So a header is taken off the front and the payload handed to
/// the kernel where it lies.
///
/// It is borrowed from the chain, which keeps the memory mapped, and cannot be parted from it: swapping
/// two moves nothing from one chain to another, and there is none without a chain to put in its place.
///
/// ```compile_fail,E0277
/// fn keep(chain: &mut cubie_virtq::Chain) {
///     std::mem::take(&mut chain.readable());
/// }
/// ```
///
/// ```compile_fail,E0515
/// fn keep(mut chain: cubie_virtq::Chain) -> cubie_virtq::Segments<'static> {
///     chain.readable()
/// }
/// ```
pub struct Segments<'a>(pub(crate) &'a mut Pieces);

/// What [`Segments`] are made of: where they lie. It does not keep the memory mapped, so it stays with
/// what does, and in this crate.
#[derive(Default)]
pub(crate) struct Pieces {
    pub(crate) iovecs: Vec<libc::iovec>,
    /// Pieces before this one have been passed.
    pub(crate) first: usize,
    len: usize,
}

// SAFETY: the iovecs lead into guest memory, which is shared between threads anyway; the chain that
// owns this value keeps the mapping alive.
unsafe impl Send for Pieces {}

impl Segments<'_> {
    /// Bytes that are left.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// True when nothing is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// What is left, for a system call. The memory behind it stays mapped as long as the chain lives;
    /// the guest may change it at any time.
    #[inline]
    pub fn iovecs(&self) -> &[libc::iovec] {
        self.0.left()
    }

    /// Copies from the guest into `data` and goes on behind it. Returns the bytes copied: fewer than
    /// asked for when no more are left.
    pub fn read(&mut self, data: &mut [u8]) -> usize {
        self.0.each_piece(data.len(), |slice, at| {
            slice.copy_to(&mut data[at..at + slice.len()]);
        })
    }

    /// Copies `data` to the guest and goes on behind it. Returns the bytes copied: fewer than given
    /// when there is no more room.
    pub fn write(&mut self, data: &[u8]) -> usize {
        self.0.each_piece(data.len(), |slice, at| {
            slice.copy_from(&data[at..at + slice.len()]);
        })
    }

    /// Reads a value of exactly `N` bytes from the front; `None` (and nothing consumed) when fewer
    /// are left.
    pub fn read_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (self.len() >= N).then(|| {
            self.read(&mut bytes);
            bytes
        })
    }

    /// Passes over up to `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.0.each_piece(count, |_, _| {});
    }

    /// Lends the first `count` bytes alone, or all when they are fewer, and goes on behind what `body` has
    /// passed of them. For a backend in front of another, which shall not have all: it allocates.
    pub fn with_front<R>(&mut self, count: usize, body: impl FnOnce(&mut Segments) -> R) -> R {
        let mut front = Pieces::default();
        self.0.split_front(count.min(self.len()), &mut front);
        let result = body(&mut Segments(&mut front));
        // What is left of it comes before the rest.
        front.extend(self.0);
        *self.0 = front;
        result
    }

    /// Lends what is left to `body`, and then, with what that returned, once more to `look`, as if nothing had
    /// been passed. Goes on behind what `body` has passed. For a backend that watches what another one reads or
    /// writes: it allocates.
    pub fn with_look<R>(
        &mut self,
        body: impl FnOnce(&mut Self) -> R,
        look: impl FnOnce(&R, &mut Segments),
    ) -> R {
        let mut whole = Pieces::default();
        whole.extend(self.0);
        let result = body(self);
        look(&result, &mut Segments(&mut whole));
        result
    }

    /// `writev`: the guest's bytes into `fd`, then goes on behind what it took.
    pub fn write_to(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let (iovecs, count) = self.batch();
        // SAFETY: each iovec is a live piece of guest memory, which the kernel only reads.
        let done = unsafe { libc::writev(fd.as_raw_fd(), iovecs, count) };
        self.after(done)
    }

    /// `readv`: bytes from `fd` into the guest, then goes on behind what came.
    pub fn read_from(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let (iovecs, count) = self.batch();
        // SAFETY: each iovec is a live piece of guest memory, which nobody in this process holds a
        // reference to; the kernel may write it as the guest itself may.
        let done = unsafe { libc::readv(fd.as_raw_fd(), iovecs, count) };
        self.after(done)
    }

    /// `pwritev` at byte `offset` of the file, see [`Segments::write_to`].
    pub fn write_to_at(&mut self, fd: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let (iovecs, count) = self.batch();
        // SAFETY: as in `write_to`.
        let done = unsafe { libc::pwritev64(fd.as_raw_fd(), iovecs, count, file_offset(offset)?) };
        self.after(done)
    }

    /// `preadv` at byte `offset` of the file, see [`Segments::read_from`].
    pub fn read_from_at(&mut self, fd: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let (iovecs, count) = self.batch();
        // SAFETY: as in `read_from`.
        let done = unsafe { libc::preadv64(fd.as_raw_fd(), iovecs, count, file_offset(offset)?) };
        self.after(done)
    }

    /// As much of [`Segments::read_from_at`] as needs no waiting for a disk (`RWF_NOWAIT`): what is in the page
    /// cache.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there, `Unsupported` when the file cannot tell.
    pub fn read_from_at_now(&mut self, fd: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let (iovecs, count) = self.batch();
        let (fd, offset, flags) = (fd.as_raw_fd(), short_offset(offset)?, libc::RWF_NOWAIT);
        // SAFETY: as in `read_from`.
        let done = unsafe { libc::preadv2(fd, iovecs, count, offset, flags) };
        self.after(done)
    }

    /// As much of [`Segments::write_to_at`] as needs no waiting for a disk (`RWF_NOWAIT`), see
    /// [`Segments::read_from_at_now`].
    ///
    /// # Errors
    /// `WouldBlock` when nothing can be written at once, `Unsupported` when the file cannot tell.
    pub fn write_to_at_now(&mut self, fd: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let (iovecs, count) = self.batch();
        let (fd, offset, flags) = (fd.as_raw_fd(), short_offset(offset)?, libc::RWF_NOWAIT);
        // SAFETY: as in `write_to`.
        let done = unsafe { libc::pwritev2(fd, iovecs, count, offset, flags) };
        self.after(done)
    }

    fn batch(&self) -> (*const libc::iovec, libc::c_int) {
        let left = self.iovecs();
        (left.as_ptr(), left.len().min(MOST_IOVECS) as libc::c_int)
    }

    fn after(&mut self, done: isize) -> io::Result<usize> {
        let done = usize::try_from(done).map_err(|_| io::Error::last_os_error())?;
        self.consume(done);
        Ok(done)
    }
}

impl Pieces {
    /// Bytes that are left.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What is left.
    #[inline]
    pub(crate) fn left(&self) -> &[libc::iovec] {
        &self.iovecs[self.first..]
    }

    #[inline]
    pub(crate) fn push(&mut self, host: NonNull<u8>, len: usize) {
        self.iovecs.push(libc::iovec { iov_base: host.as_ptr().cast(), iov_len: len });
        self.len += len;
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        let Self { iovecs, first, len } = self;
        iovecs.clear();
        (*first, *len) = (0, 0);
    }

    /// Adds what is left of `other`, which lends it too.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.iovecs.extend_from_slice(other.left());
        self.len += other.len;
    }

    /// Moves the first `count` bytes into `front`, which was empty. `false`, and nothing moved, when
    /// fewer are left.
    pub(crate) fn split_front(&mut self, count: usize, front: &mut Self) -> bool {
        let enough = self.len >= count;
        if enough {
            self.each_piece(count, |slice, _| {
                if let Some(host) = NonNull::new(slice.ptr_guard_mut().as_ptr()) {
                    front.push(host, slice.len());
                }
            });
        }
        enough
    }

    /// Runs `piece` over the next `count` bytes (or what is left), with the offset of each piece.
    fn each_piece(
        &mut self,
        count: usize,
        mut piece: impl FnMut(&VolatileSlice<'_>, usize),
    ) -> usize {
        let mut done = 0;
        while let Some(iovec) = self.iovecs.get_mut(self.first).filter(|_| done < count) {
            let here = iovec.iov_len.min(count - done);
            // SAFETY: the first `here` bytes of an iovec are a live piece of guest memory.
            piece(&unsafe { VolatileSlice::new(iovec.iov_base.cast(), here) }, done);
            iovec.iov_base = iovec.iov_base.cast::<u8>().wrapping_add(here).cast();
            iovec.iov_len -= here;
            done += here;
            if iovec.iov_len == 0 {
                self.first += 1;
            }
        }
        self.len -= done;
        done
    }
}

fn file_offset(offset: u64) -> io::Result<libc::off64_t> {
    offset.try_into().map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// As the C library of a 32-bit host has it.
fn short_offset(offset: u64) -> io::Result<libc::off_t> {
    offset.try_into().map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl fmt::Debug for Segments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes in {} pieces", self.len, self.left().len())
    }
}

/// A byte of guest memory kept apart from the rest of its chain's buffers.
#[derive(Debug)]
pub(crate) struct StatusByte(NonNull<u8>);

// SAFETY: as for `Pieces`.
unsafe impl Send for StatusByte {}

impl StatusByte {
    /// Takes the last byte off `segments`.
    pub(crate) fn take(segments: &mut Pieces) -> Option<Self> {
        let last = segments.iovecs[segments.first..].last_mut()?;
        last.iov_len -= 1;
        let at = last.iov_base.cast::<u8>().wrapping_add(last.iov_len);
        if last.iov_len == 0 {
            segments.iovecs.pop();
        }
        segments.len -= 1;
        NonNull::new(at).map(Self)
    }

    pub(crate) fn set(&self, value: u8) {
        // SAFETY: the byte is guest memory, which the chain that holds this value keeps mapped.
        unsafe { self.0.write_volatile(value) };
    }
}
