//! Cables.

use std::io;
use std::os::fd::BorrowedFd;

use cubie_virtio_core::Features;
use cubie_virtio_net::{Link, NetBackend, NetHeader, Received};
use cubie_virtq::Segments;
use rustix::event::epoll::EventFlags;

use super::faulty::Met;
use crate::{Errno, Faulty};

impl<B: NetBackend> NetBackend for Faulty<B> {
    fn send(&mut self, header: &NetHeader, frame: &mut Segments) -> io::Result<()> {
        match self.meet("send") {
            None => self.inner.send(header, frame),
            Some(Met::Error(errno)) => Err(self.refuse(errno)),
            Some(Met::Short) => Err(io::ErrorKind::WriteZero.into()),
            Some(Met::Death) => Err(Errno::NODEV.into()),
        }
    }

    fn recv(&mut self, header: &mut NetHeader, room: &mut Segments) -> io::Result<Received> {
        match self.meet("recv") {
            None => self.inner.recv(header, room),
            Some(Met::Error(errno)) => Err(self.refuse(errno)),
            Some(Met::Short) => Ok(match self.inner.recv(header, room)? {
                Received::Nothing => Received::Nothing,
                Received::Frame(_) | Received::Lost => Received::Lost,
            }),
            Some(Met::Death) => Err(Errno::NODEV.into()),
        }
    }

    fn ready_fd(&self) -> BorrowedFd<'_> {
        let events = EventFlags::IN | EventFlags::OUT;
        self.input.join(&self.faults, Some(self.inner.ready_fd()), events)
    }

    fn ready(&mut self) {
        self.inner.ready();
    }

    fn plugged(&mut self, link: &Link) {
        self.inner.plugged(link);
    }

    fn offloads(&self) -> Features {
        self.inner.offloads()
    }

    fn guest_offloads(&self) -> Features {
        self.inner.guest_offloads()
    }

    /// Never fails by itself, as [`NetBackend::set_active`] does not: a card would not start, which is no storm
    /// to live through.
    fn set_guest_offloads(&mut self, offloads: Features) -> io::Result<()> {
        self.inner.set_guest_offloads(offloads)
    }

    fn set_active(&mut self, active: bool) -> io::Result<()> {
        self.inner.set_active(active)
    }
}
