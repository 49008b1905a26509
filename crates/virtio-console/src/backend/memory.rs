//! A console without a terminal, for tests and for programs that talk to the guest themselves.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cubie_virtq::Segments;
use rustix::event::{EventfdFlags, eventfd};

use super::ConsoleBackend;

/// Output is taken in pieces of this size.
const PIECE: usize = 4096;

/// A console in memory, with a [`Person`] at the other end. What the guest prints is kept until the
/// person reads it, however much it is.
#[derive(Debug)]
pub struct Memory(Arc<Shared>);

/// Who sits at the console in memory. Clones share the same keyboard and screen.
#[derive(Clone, Debug)]
pub struct Person(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: Mutex<Bytes>,
    /// Something was typed.
    typed: OwnedFd,
    /// Something was printed.
    printed: Condvar,
}

#[derive(Debug, Default)]
struct Bytes {
    typed: VecDeque<u8>,
    printed: Vec<u8>,
}

impl Memory {
    /// A console, and the person in front of it.
    pub fn new() -> io::Result<(Self, Person)> {
        let typed = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (bytes, printed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { bytes, typed, printed });
        Ok((Self(Arc::clone(&shared)), Person(shared)))
    }
}

impl Person {
    /// Types.
    pub fn type_in(&self, bytes: &[u8]) {
        self.0.lock().typed.extend(bytes);
        // The counter cannot overflow by ones.
        let _ = rustix::io::write(&self.0.typed, &1u64.to_ne_bytes());
    }

    /// Takes all that was printed since the last time.
    pub fn read(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().printed)
    }

    /// Waits until at least `count` bytes were printed, then takes all of them; also at the deadline,
    /// and then they are fewer.
    pub fn wait_for(&self, count: usize, deadline: Duration) -> Vec<u8> {
        let end = Instant::now() + deadline;
        let mut bytes = self.0.lock();
        while bytes.printed.len() < count {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.0.printed.wait_timeout(bytes, left);
            bytes = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut bytes.printed)
    }
}

impl ConsoleBackend for Memory {
    fn read(&mut self, room: &mut Segments) -> io::Result<usize> {
        let typed = &mut self.0.lock().typed;
        if typed.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = room.write(typed.make_contiguous());
        typed.drain(..count);
        Ok(count)
    }

    fn write(&mut self, data: &mut Segments) -> io::Result<usize> {
        let mut piece = [0; PIECE];
        let count = data.read(&mut piece);
        self.0.lock().printed.extend(&piece[..count]);
        self.0.printed.notify_all();
        Ok(count)
    }

    fn input_ready(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.typed.as_fd())
    }

    fn output_ready(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Shared {
    /// The bytes are whole between two calls, even when one of them has panicked.
    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
