//! Disks.

use std::io;
use std::os::fd::BorrowedFd;

use cubie_virtio_blk::{BlockBackend, Completion, Operation, Request, Topology};
use rustix::event::epoll::EventFlags;

use crate::{Errno, Fault, Faulty};

impl<B: BlockBackend> Faulty<B> {
    /// Carries out the first of the late requests that `due` chooses. The outer `None` when there is none, the
    /// inner one when the disk has kept it.
    fn carry_out(&mut self, due: impl Fn(u8) -> bool) -> Option<Option<Completion>> {
        let dead = self.faults.is_dead();
        let at = self.late.iter().position(|(turns, _)| dead || due(*turns))?;
        let (_, request) = self.late.remove(at);
        if dead {
            return Some(Some(request.finish(Err(Errno::NODEV.into()))));
        }
        let completion = self.inner.submit(request);
        if completion.is_none() {
            self.inner.start();
        }
        Some(completion)
    }
}

impl<B: BlockBackend> BlockBackend for Faulty<B> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn topology(&self) -> Topology {
        self.inner.topology()
    }

    fn can_discard(&self) -> bool {
        self.inner.can_discard()
    }

    fn can_write_zeroes(&self) -> bool {
        self.inner.can_write_zeroes()
    }

    fn submit(&mut self, mut request: Request) -> Option<Completion> {
        let operation = match request.operation() {
            Operation::Read { .. } => "read",
            Operation::Write { .. } => "write",
            Operation::Flush => "flush",
            Operation::Discard { .. } => "discard",
            Operation::WriteZeroes { .. } => "write zeroes",
        };
        let error = match self.faults.next(operation) {
            None => return self.inner.submit(request),
            Some(Fault::Late(turns)) => {
                self.late.push((turns, request));
                return None;
            }
            Some(Fault::Error(errno)) => errno.into(),
            Some(Fault::Short) => cut(&mut request),
            Some(Fault::Death) => Errno::NODEV.into(),
        };
        Some(request.finish(Err(error)))
    }

    fn start(&mut self) {
        self.inner.start();
    }

    fn complete(&mut self) -> Option<Completion> {
        self.faults.count();
        loop {
            if let Some(completion) = self.inner.complete() {
                return Some(completion);
            }
            match self.carry_out(|turns| turns == 0) {
                Some(None) => {}
                Some(completion) => return completion,
                None => break,
            }
        }
        // A turn is over.
        self.late.iter_mut().for_each(|(turns, _)| *turns -= 1);
        if !self.late.is_empty() {
            self.faults.wake();
        }
        None
    }

    fn wait(&mut self) -> Option<Completion> {
        self.faults.count();
        while let Some(carried_out) = self.carry_out(|_| true) {
            if carried_out.is_some() {
                return carried_out;
            }
        }
        self.inner.wait()
    }

    fn ready_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.input.join(&self.faults, self.inner.ready_fd(), EventFlags::IN))
    }
}

/// Ends a request in the middle: nobody may look at what it has filled.
fn cut(request: &mut Request) -> io::Error {
    let Operation::Read { .. } = request.operation() else {
        return io::ErrorKind::WriteZero.into();
    };
    let half = request.data().len() / 2;
    request.data().write(&vec![0xee; half]);
    io::ErrorKind::UnexpectedEof.into()
}
