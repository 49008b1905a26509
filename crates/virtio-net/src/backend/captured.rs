//! A host end with an observer.

use std::io;
use std::os::fd::BorrowedFd;

use cubie_virtio_core::Features;
use cubie_virtq::Segments;

use super::capture::Direction;
use super::{Capture, NetBackend, Received};
use crate::{Link, NetHeader};

/// A host end whose frames are written to a file ([`Capture`]) as they pass in both directions.
///
/// Frames are as the guest has them: with offloads, longer than they travel and with checksums that are not yet
/// filled in. What the other end refuses is not there; what the card drops on its way to the guest is.
///
/// This is for looking, not for speed: each frame is copied, waits for the file, and, where a card has several
/// pairs of queues, for its turn. The kernel cannot serve the queues meanwhile (vhost-net), since its frames
/// would not come by here.
pub struct Captured<B> {
    end: B,
    capture: Capture,
}

impl<B: NetBackend> Captured<B> {
    /// Watches `end`.
    pub fn new(end: B, capture: Capture) -> Self {
        Self { end, capture }
    }
}

impl<B: NetBackend> NetBackend for Captured<B> {
    fn send(&mut self, header: &NetHeader, frame: &mut Segments) -> io::Result<()> {
        let Self { end, capture } = self;
        frame.with_look(
            |frame| end.send(header, frame),
            |sent, frame| {
                if sent.is_ok() {
                    let len = frame.len();
                    capture.write(Direction::Out, frame, len);
                }
            },
        )
    }

    fn recv(&mut self, header: &mut NetHeader, room: &mut Segments) -> io::Result<Received> {
        let Self { end, capture } = self;
        room.with_look(
            |room| end.recv(header, room),
            |received, frame| {
                if let Ok(Received::Frame(len)) = received {
                    capture.write(Direction::In, frame, *len);
                }
            },
        )
    }

    fn ready_fd(&self) -> BorrowedFd<'_> {
        self.end.ready_fd()
    }

    fn ready(&mut self) {
        self.end.ready();
    }

    fn plugged(&mut self, link: &Link) {
        self.end.plugged(link);
    }

    fn offloads(&self) -> Features {
        self.end.offloads()
    }

    fn guest_offloads(&self) -> Features {
        self.end.guest_offloads()
    }

    fn set_guest_offloads(&mut self, offloads: Features) -> io::Result<()> {
        self.end.set_guest_offloads(offloads)
    }

    fn set_active(&mut self, active: bool) -> io::Result<()> {
        self.end.set_active(active)
    }
}
