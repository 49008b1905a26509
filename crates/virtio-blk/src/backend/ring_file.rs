//! A file or block device of the host, by io_uring.
#![expect(unsafe_code, reason = "iovecs into guest memory are handed to the kernel")]

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use io_uring::squeue::Entry;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, Probe, opcode};
use nix::libc;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::image::{PUNCH, is_refusal, zeroing};
use super::{BlockBackend, Image};
use crate::{Completion, Operation, Request, Topology};

/// Requests in flight: as many as a queue of the device has descriptors.
const DEPTH: usize = 256;
/// Pieces of memory that the kernel takes at once (`IOV_MAX`).
const MOST_IOVECS: usize = 1024;

/// A disk whose bytes are those of a file or a block device, served by io_uring.
///
/// What is in the host's page cache is read and written at once. What is not, and all that has to reach the disk
/// (flushes, writes that go through, direct I/O, discards), goes through the ring: one system call for all
/// requests of a batch, none of which waits for another.
pub struct RingFile {
    image: Image,
    ring: IoUring,
    /// Tells of completions.
    ready: OwnedFd,
    /// By the number that the kernel knows each by.
    flights: Vec<Option<Flight>>,
    /// Numbers that are not in use.
    free: Vec<usize>,
    /// What the file can do.
    tells: Tells,
}

/// A request in the kernel's hands.
#[derive(Debug)]
struct Flight {
    request: Request,
    /// Where its data goes on.
    offset: u64,
}

#[derive(Debug)]
struct Tells {
    /// It says what of a read needs no waiting,
    reads: bool,
    /// and of a write.
    writes: bool,
    /// It has places that read as zeros and were never written.
    places: bool,
}

/// What has become of a request that the kernel gave back.
enum Landed {
    Done(io::Result<()>),
    /// A part of it.
    Short,
    /// It is to be done in the plain way: it was cancelled since the thread that asked for it has ended, or the
    /// ring cannot do it.
    Plainly,
}

impl RingFile {
    /// What is in `image`.
    ///
    /// # Errors
    /// When the host has no io_uring that is new enough (Linux 5.6), or does not let us.
    pub fn new(image: Image) -> io::Result<Self> {
        let ring = IoUring::new(DEPTH as u32)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let codes = [
            opcode::Readv::CODE,
            opcode::Writev::CODE,
            opcode::Fsync::CODE,
            opcode::Fallocate::CODE,
        ];
        if !codes.into_iter().all(|code| probe.is_supported(code)) {
            return Err(ErrorKind::Unsupported.into());
        }
        let ready = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        ring.submitter().register_eventfd(ready.as_raw_fd())?;
        let flights = (0..DEPTH).map(|_| None).collect();
        let tells = Tells { reads: true, writes: true, places: true };
        Ok(Self { image, ring, ready, flights, free: (0..DEPTH).collect(), tells })
    }

    /// Does a request, or the first part of it, if that needs no waiting. `None` when there is more to do.
    fn at_once(&mut self, request: &mut Request, offset: &mut u64) -> Option<io::Result<()>> {
        let is_direct = match request.operation() {
            Operation::Flush | Operation::Write { through: true, .. }
                if self.image.has_kept().is_err() =>
            {
                return Some(self.image.has_kept());
            }
            // There is no zeroing that goes through, and what has to be written is so here, where it counts.
            Operation::WriteZeroes { through, .. } if through || !self.tells.places => None,
            Operation::Flush | Operation::Discard { .. } | Operation::WriteZeroes { .. } => {
                return None;
            }
            Operation::Read { .. } | Operation::Write { .. } => {
                self.image.is_direct(&request.data(), *offset)
            }
        };
        let tells = match (is_direct, request.operation()) {
            (None, _) => return Some(self.image.carry_out(request, *offset)),
            (Some(true), _) | (_, Operation::Write { through: true, .. }) => return None,
            (_, Operation::Read { .. }) => &mut self.tells.reads,
            _ => &mut self.tells.writes,
        };
        if *tells {
            match self.image.move_now(request, offset) {
                Ok(true) => return Some(Ok(())),
                Ok(false) => return None,
                Err(error) if error.kind() == ErrorKind::Unsupported => *tells = false,
                Err(error) => return Some(Err(error)),
            }
        }
        // A write to the page cache seldom has to wait, and a read does not say whether it would.
        let seldom = matches!(request.operation(), Operation::Write { .. });
        (seldom || self.image.is_in_memory()).then(|| self.image.carry_out(request, *offset))
    }

    /// Puts the flight `at` into the ring, to be started.
    fn launch(&mut self, at: usize, mut flight: Flight) {
        let entry = flight.entry(&self.image).user_data(at as u64);
        self.flights[at] = Some(flight);
        // SAFETY: what the entry points to is guest memory and a list of its pieces, which belong to the request
        // in `flights` until the kernel has given it back; `drop` waits for that too. The kernel may use the memory
        // as the guest itself may, and nobody in this process holds a reference to it.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("the ring has a place for each flight");
    }

    /// The next request that the kernel has given back, unless it goes on.
    fn land(&mut self) -> Option<Option<Completion>> {
        let entry = self.ring.completion().next()?;
        let at = entry.user_data() as usize;
        let mut flight = self.flights.get_mut(at).and_then(Option::take)?;
        let landed = flight.landed(entry.result());
        if let (Operation::WriteZeroes { .. }, Landed::Plainly) =
            (flight.request.operation(), &landed)
        {
            self.tells.places = false;
        }
        let Flight { ref mut request, offset } = flight;
        let result = match landed {
            Landed::Short if self.image.is_direct(&request.data(), offset).is_some() => {
                self.launch(at, flight);
                return Some(None);
            }
            Landed::Short | Landed::Plainly => self.image.carry_out(request, offset),
            Landed::Done(result) if request.operation() == Operation::Flush => {
                self.image.note_sync(result)
            }
            Landed::Done(result) => result,
        };
        self.free.push(at);
        Some(Some(flight.request.finish(result)))
    }
}

impl Flight {
    /// What is left of it, for the kernel.
    fn entry(&mut self, image: &Image) -> Entry {
        let (operation, offset) = (self.request.operation(), self.offset);
        let data = self.request.data();
        let [file, places] = [image.data_file(), image.file()].map(|file| Fd(file.as_raw_fd()));
        let pieces = data.iovecs();
        let (first, count) = (pieces.as_ptr(), pieces.len().min(MOST_IOVECS) as u32);
        match operation {
            Operation::Read { .. } => opcode::Readv::new(file, first, count).offset(offset).build(),
            Operation::Write { through, .. } => {
                let flags = if through { libc::RWF_DSYNC } else { 0 };
                opcode::Writev::new(file, first, count).offset(offset).rw_flags(flags).build()
            }
            Operation::Flush => opcode::Fsync::new(places).flags(FsyncFlags::DATASYNC).build(),
            Operation::Discard { len, .. } => {
                let mode = PUNCH.bits() as i32;
                opcode::Fallocate::new(places, len).offset(offset).mode(mode).build()
            }
            Operation::WriteZeroes { len, unmap, .. } => {
                let mode = zeroing(unmap).bits() as i32;
                opcode::Fallocate::new(places, len).offset(offset).mode(mode).build()
            }
        }
    }

    /// What the kernel says of it: bytes moved, 0, or an error's negative number.
    fn landed(&mut self, result: i32) -> Landed {
        let moves =
            matches!(self.request.operation(), Operation::Read { .. } | Operation::Write { .. });
        let mut data = self.request.data();
        match result {
            0 if moves && !data.is_empty() => Landed::Done(Err(ErrorKind::UnexpectedEof.into())),
            0.. if moves => {
                data.consume(result as usize);
                self.offset += result as u64;
                if data.is_empty() { Landed::Done(Ok(())) } else { Landed::Short }
            }
            0.. => Landed::Done(Ok(())),
            _ => match -result {
                libc::ECANCELED | libc::EINTR | libc::EAGAIN | libc::EOPNOTSUPP => Landed::Plainly,
                error if !moves && is_refusal(Errno::from_raw_os_error(error)) => Landed::Plainly,
                error => Landed::Done(Err(io::Error::from_raw_os_error(error))),
            },
        }
    }
}

impl BlockBackend for RingFile {
    fn size(&self) -> u64 {
        self.image.size()
    }

    fn is_read_only(&self) -> bool {
        self.image.is_read_only()
    }

    fn topology(&self) -> Topology {
        self.image.topology()
    }

    fn can_discard(&self) -> bool {
        self.image.can_discard()
    }

    fn can_write_zeroes(&self) -> bool {
        true
    }

    fn submit(&mut self, mut request: Request) -> Option<Completion> {
        let mut offset = request.operation().offset();
        if let Some(result) = self.at_once(&mut request, &mut offset) {
            return Some(request.finish(result));
        }
        let Some(at) = self.free.pop() else {
            let result = self.image.carry_out(&mut request, offset);
            return Some(request.finish(result));
        };
        self.launch(at, Flight { request, offset });
        None
    }

    fn start(&mut self) {
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(started) if started > 0 => {}
                refused => {
                    // For want of memory: `complete` is to be called, and tries again.
                    tracing::debug!(?refused, "io_uring takes no more requests now");
                    let _ = rustix::io::write(&self.ready, &1u64.to_ne_bytes());
                    break;
                }
            }
        }
    }

    fn complete(&mut self) -> Option<Completion> {
        while let Some(landed) = self.land() {
            if landed.is_some() {
                return landed;
            }
        }
        // What goes on, or was not taken before.
        self.start();
        None
    }

    fn wait(&mut self) -> Option<Completion> {
        loop {
            if let Some(completion) = self.complete() {
                return Some(completion);
            }
            if self.free.len() == DEPTH {
                return None;
            }
            if let Err(error) = self.ring.submit_and_wait(1) {
                // Nothing may be given up that the kernel still has.
                tracing::debug!(%error, "io_uring lets us wait");
            }
        }
    }

    fn ready_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ready.as_fd())
    }
}

impl Drop for RingFile {
    /// The kernel uses guest memory as long as a request is in flight.
    fn drop(&mut self) {
        while self.wait().is_some() {}
    }
}

impl fmt::Debug for RingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_flight = DEPTH - self.free.len();
        let mut ring = f.debug_struct("RingFile");
        ring.field("image", &self.image).field("in_flight", &in_flight).finish_non_exhaustive()
    }
}
