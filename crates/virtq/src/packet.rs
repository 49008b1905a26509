//! Packets: one system call each, the header on the host's side and the rest in guest memory.
#![expect(unsafe_code, reason = "iovecs into guest memory are handed to the kernel")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::Segments;
use crate::segments::{MOST_IOVECS, Pieces};

impl Segments<'_> {
    /// `writev` of one packet: `header`, then all that is left. The kernel sees the header that the
    /// caller has checked, whatever the guest does to its own meanwhile. After an error nothing is
    /// passed over.
    pub fn write_packet(&mut self, header: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
        // `writev` only reads what the iovec points to.
        let header = piece(header.as_ptr().cast_mut(), header.len());
        let whole = header.iov_len + self.len();
        // SAFETY: the header is borrowed for the call, the other iovecs are live guest memory; the
        // kernel only reads them.
        let written = self.framed(header, None, |iovecs, count| unsafe {
            libc::writev(fd.as_raw_fd(), iovecs, count)
        })?;
        if written != whole {
            // A stream, or a packet that the host cut.
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.consume(whole - header.iov_len);
        Ok(())
    }

    /// Sends `header`, then all that is left, into a stream socket, without waiting: as many bytes as have a
    /// place there. Returns how many those are, with those of the header, and goes on behind them.
    pub fn send_stream(&mut self, header: &[u8], fd: BorrowedFd<'_>) -> io::Result<usize> {
        // `sendmsg` only reads what the iovec points to.
        let header = piece(header.as_ptr().cast_mut(), header.len());
        let sent = self.framed(header, None, |iovecs, count| {
            // SAFETY: all fields are numbers or pointers, for which zero is a value.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = iovecs.cast_mut();
            message.msg_iovlen = count as _;
            // Whose other end is gone is an error here, and no signal.
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
            // SAFETY: the header is borrowed for the call, the other iovecs are live guest memory; the kernel
            // only reads them.
            unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) }
        })?;
        self.consume(sent.saturating_sub(header.iov_len));
        Ok(sent)
    }

    /// `readv` of one packet: its first bytes into `header`, the others into the guest. Returns how
    /// many others; `None` for a packet that is shorter than its header or longer than the room. It is
    /// lost then, since a tap and a datagram socket cut what does not fit, and nothing is passed over.
    pub fn read_packet(
        &mut self,
        header: &mut [u8],
        fd: BorrowedFd<'_>,
    ) -> io::Result<Option<usize>> {
        // One byte more than there is room for tells a packet that fills the room from a longer one.
        let mut excess = 0u8;
        let header = piece(header.as_mut_ptr(), header.len());
        let excess = piece(&raw mut excess, 1);
        // SAFETY: the header is borrowed and the excess alive for the call; the other iovecs are guest
        // memory, as in `Segments::read_from`.
        let read = self.framed(header, Some(excess), |iovecs, count| unsafe {
            libc::readv(fd.as_raw_fd(), iovecs, count)
        })?;
        let len = read.checked_sub(header.iov_len).filter(|len| *len <= self.len());
        self.consume(len.unwrap_or(0));
        Ok(len)
    }

    /// Runs `call` on what is left between `before` and `after`.
    fn framed(
        &mut self,
        before: libc::iovec,
        after: Option<libc::iovec>,
        call: impl FnOnce(*const libc::iovec, libc::c_int) -> isize,
    ) -> io::Result<usize> {
        if self.iovecs().len() + 2 > MOST_IOVECS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let Pieces { iovecs: all, first, .. } = &mut *self.0;
        all.insert(*first, before);
        all.extend(after);
        let iovecs = &all[*first..];
        let done = call(iovecs.as_ptr(), iovecs.len() as libc::c_int);
        let result = usize::try_from(done).map_err(|_| io::Error::last_os_error());
        if after.is_some() {
            all.pop();
        }
        all.remove(*first);
        result
    }
}

fn piece(start: *mut u8, len: usize) -> libc::iovec {
    libc::iovec { iov_base: start.cast(), iov_len: len }
}
