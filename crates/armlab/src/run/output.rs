//! An output stream of this process that may be slow, or go away.

use crate::wire::Stream;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::os::fd::BorrowedFd;

/// Bytes written at once: a pipe that is ready takes at least as many without blocking (PIPE_BUF).
const CHUNK: usize = 4096;

pub(super) struct Output<'a> {
    pub(super) stream: Stream,
    /// What has come and is not written yet.
    pub(super) waiting: Vec<u8>,
    fd: Option<BorrowedFd<'a>>,
}

impl<'a> Output<'a> {
    pub(super) fn new(stream: Stream, fd: BorrowedFd<'a>) -> Output<'a> {
        Output { stream, waiting: Vec::new(), fd: Some(fd) }
    }

    /// `None` when nobody reads any more.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'a>> {
        self.fd
    }

    /// Writes as much as can be written without waiting; an error, once, when the reader has gone away.
    pub(super) fn write(&mut self) -> Result<(), Errno> {
        let Some(fd) = self.fd else {
            self.waiting.clear();
            return Ok(());
        };
        let mut written = 0;
        while written < self.waiting.len() && is_ready(fd) {
            let end = self.waiting.len().min(written + CHUNK);
            match rustix::io::write(fd, &self.waiting[written..end]) {
                Ok(count) => written += count,
                Err(Errno::INTR | Errno::AGAIN) => break,
                Err(error) => {
                    self.fd = None;
                    self.waiting.clear();
                    return Err(error);
                }
            }
        }
        self.waiting.drain(..written);
        Ok(())
    }
}

fn is_ready(fd: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&now)).is_ok_and(|count| count > 0)
}
