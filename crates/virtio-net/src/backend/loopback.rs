//! A cable in memory, for tests and for machines that talk to each other only.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cubie_virtq::Segments;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::{NetBackend, Received};
use crate::NetHeader;

/// Frames that fit into one direction of a cable.
const MOST_FRAMES: usize = 256;

type Frames = VecDeque<Vec<u8>>;

/// One end of a cable in memory. What one end sends, the other receives; none is lost on the way: a
/// full cable makes its sender wait.
#[derive(Debug)]
pub struct Loopback {
    outgoing: Arc<Mutex<Frames>>,
    incoming: Arc<Mutex<Frames>>,
    ready: Arc<OwnedFd>,
    peer: Arc<OwnedFd>,
}

impl Loopback {
    /// A cable with both ends in one place: what is sent comes back.
    pub fn new() -> io::Result<Self> {
        let (frames, ready) = (Arc::default(), Self::event()?);
        let (outgoing, peer) = (Arc::clone(&frames), Arc::clone(&ready));
        Ok(Self { outgoing, incoming: frames, ready, peer })
    }

    /// Both ends of a cable.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (there, back) = (Arc::default(), Arc::default());
        let (left, right) = (Self::event()?, Self::event()?);
        let one = Self {
            outgoing: Arc::clone(&there),
            incoming: Arc::clone(&back),
            ready: Arc::clone(&left),
            peer: Arc::clone(&right),
        };
        Ok((one, Self { outgoing: back, incoming: there, ready: right, peer: left }))
    }

    /// Sends a frame from this end, where no card is. `false` when the cable is full.
    pub fn send_frame(&self, frame: &[u8]) -> bool {
        self.push(|| frame.to_vec())
    }

    /// Waits for a frame at this end, where no card is; `None` when none has come in time.
    pub fn wait_frame(&self, deadline: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + deadline;
        loop {
            // What comes from here on makes the eventfd readable again.
            let _ = rustix::io::read(&self.ready, &mut [0; 8]);
            if let Some(frame) = self.pop(Vec::clone) {
                return Some(frame);
            }
            let left = end.checked_duration_since(Instant::now())?;
            let left = Timespec::try_from(left).ok();
            let _ = poll(&mut [PollFd::new(&self.ready, PollFlags::IN)], left.as_ref());
        }
    }

    fn event() -> io::Result<Arc<OwnedFd>> {
        Ok(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    fn push(&self, frame: impl FnOnce() -> Vec<u8>) -> bool {
        let mut frames = lock(&self.outgoing);
        let room = frames.len() < MOST_FRAMES;
        if room {
            frames.push_back(frame());
            wake(&self.peer);
        }
        room
    }

    /// Shows the next frame to `take`, and removes it.
    fn pop<R>(&self, take: impl FnOnce(&Vec<u8>) -> R) -> Option<R> {
        let mut frames = lock(&self.incoming);
        let frame = frames.pop_front()?;
        if frames.len() + 1 == MOST_FRAMES {
            // Its sender may have waited for room.
            wake(&self.peer);
        }
        Some(take(&frame))
    }
}

impl NetBackend for Loopback {
    fn send(&mut self, _header: &NetHeader, frame: &mut Segments) -> io::Result<()> {
        let sent = self.push(|| {
            let mut bytes = vec![0; frame.len()];
            frame.read(&mut bytes);
            bytes
        });
        if sent { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn recv(&mut self, _header: &mut NetHeader, room: &mut Segments) -> io::Result<Received> {
        let received = self.pop(|frame| match frame.len() <= room.len() {
            true => Received::Frame(room.write(frame)),
            false => Received::Lost,
        });
        Ok(received.unwrap_or(Received::Nothing))
    }

    fn ready_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}

fn wake(ready: &OwnedFd) {
    // The counter cannot overflow by ones.
    let _ = rustix::io::write(ready, &1u64.to_ne_bytes());
}

/// Frames are whole between two calls, even when one of them has panicked.
fn lock(frames: &Mutex<Frames>) -> MutexGuard<'_, Frames> {
    frames.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_cable_says_so_and_loses_nothing() {
        let (one, other) = Loopback::pair().unwrap();
        let mut sent = 0u32;
        while one.send_frame(&sent.to_le_bytes()) {
            sent += 1;
        }
        assert_eq!(sent as usize, MOST_FRAMES);
        for n in 0..sent {
            assert_eq!(other.wait_frame(Duration::ZERO), Some(n.to_le_bytes().to_vec()));
        }
        assert_eq!(other.wait_frame(Duration::ZERO), None);
    }
}
