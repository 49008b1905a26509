//! Terminals and lines.

use std::io;
use std::os::fd::BorrowedFd;

use cubie_virtio_console::ConsoleBackend;
use cubie_virtq::Segments;
use rustix::event::epoll::EventFlags;

use super::faulty::Met;
use crate::{Errno, Faulty};

impl<B: ConsoleBackend> ConsoleBackend for Faulty<B> {
    fn read(&mut self, room: &mut Segments) -> io::Result<usize> {
        match self.meet("read") {
            None => self.inner.read(room),
            Some(Met::Error(Errno::INTR)) => Err(Errno::INTR.into()),
            Some(Met::Error(errno)) => Err(self.refuse(errno)),
            Some(Met::Short) => room.with_front(half(room), |front| self.inner.read(front)),
            Some(Met::Death) => Err(Errno::IO.into()),
        }
    }

    fn write(&mut self, data: &mut Segments) -> io::Result<usize> {
        match self.meet("write") {
            None => self.inner.write(data),
            Some(Met::Error(Errno::INTR)) => Err(Errno::INTR.into()),
            Some(Met::Error(errno)) => Err(self.refuse(errno)),
            Some(Met::Short) => data.with_front(half(data), |front| self.inner.write(front)),
            Some(Met::Death) => Err(Errno::PIPE.into()),
        }
    }

    fn input_ready(&self) -> Option<BorrowedFd<'_>> {
        Some(self.input.join(&self.faults, self.inner.input_ready(), EventFlags::IN))
    }

    fn output_ready(&self) -> Option<BorrowedFd<'_>> {
        Some(self.output.join(&self.faults, self.inner.output_ready(), EventFlags::OUT))
    }
}

/// At least one byte.
fn half(segments: &Segments) -> usize {
    segments.len().div_ceil(2)
}
