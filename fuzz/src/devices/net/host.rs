//! The host's end of the cable.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use arbitrary::Arbitrary;
use cubie_virtio_core::Features;
use cubie_virtio_net::{NetBackend, NetHeader, Received};
use cubie_virtq::Segments;

/// What the host makes of a frame that the guest sends.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Fate {
    Sent,
    /// No room now.
    Full,
    Refused,
}

/// A frame on its way to the guest, or none for once.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Incoming {
    Frame(Vec<u8>),
    /// With a header that this guest has not negotiated.
    Odd(Vec<u8>),
    Error,
}

/// What is going to happen, and what has happened since the last turn.
#[derive(Default)]
pub(super) struct Cable {
    pub(super) fates: VecDeque<Fate>,
    pub(super) sent: VecDeque<(NetHeader, Vec<u8>, Fate)>,
    pub(super) incoming: VecDeque<Incoming>,
    /// What was taken of `incoming`.
    pub(super) received: VecDeque<Incoming>,
}

#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Cable>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Cable> {
        self.0.lock().expect("nothing has panicked")
    }
}

pub(super) struct Host {
    cable: Shared,
    offloads: Features,
    ready: OwnedFd,
}

impl Host {
    pub(super) fn new(cable: Shared, offloads: Features) -> Self {
        let ready = std::fs::File::open("/dev/null").expect("the null device").into();
        Self { cable, offloads, ready }
    }
}

impl NetBackend for Host {
    fn send(&mut self, header: &NetHeader, frame: &mut Segments) -> io::Result<()> {
        let mut cable = self.cable.lock();
        let fate = cable.fates.pop_front().unwrap_or(Fate::Sent);
        let mut bytes = vec![0; frame.len()];
        frame.read(&mut bytes);
        cable.sent.push_back((*header, bytes, fate));
        match fate {
            Fate::Sent => Ok(()),
            Fate::Full => Err(ErrorKind::WouldBlock.into()),
            Fate::Refused => Err(io::Error::other("as asked for")),
        }
    }

    fn recv(&mut self, header: &mut NetHeader, room: &mut Segments) -> io::Result<Received> {
        let mut cable = self.cable.lock();
        let Some(next) = cable.incoming.pop_front() else { return Ok(Received::Nothing) };
        let result = match &next {
            Incoming::Error => Err(io::Error::other("as asked for")),
            Incoming::Frame(frame) | Incoming::Odd(frame) if frame.len() > room.len() => {
                Ok(Received::Lost)
            }
            Incoming::Frame(frame) => Ok(Received::Frame(room.write(frame))),
            Incoming::Odd(frame) => {
                header.gso_type = 1;
                Ok(Received::Frame(room.write(frame)))
            }
        };
        cable.received.push_back(next);
        result
    }

    fn ready_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    fn offloads(&self) -> Features {
        self.offloads
    }
}
