//! A stream socket to another program, in the manner of QEMU and passt.

mod connection;
mod error;
mod incoming;
mod listener;
mod peer;
mod retry;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cubie_virtio_core::{Clock, HostClock};
use cubie_virtq::Segments;
use rustix::event::epoll::{self, EventData, EventFlags};

use super::{NetBackend, Received};
use crate::{Link, NetHeader};
use connection::{Connection, Got};
pub use error::SocketError;
use peer::Peer;

/// The end of a cable whose other end is a program on the same host: a Unix stream socket with each frame behind
/// its length, four bytes in network order. So speak QEMU (`-netdev stream`), passt, and this type itself,
/// one VM with another.
///
/// A frame goes out from where it lies in guest memory, by one system call; what comes is read into a buffer of
/// 128 KiB first, as much as there is, and copied from there. A peer that does not read makes the guest's frames
/// wait in their ring, one that sends what cannot be a frame's length is hung up on, with one line in the log.
///
/// The card's [`Link`] is up while there is a peer, and not for others to move. For a card with one pair of
/// queues.
pub struct Socket {
    peer: Peer,
    connection: Option<Connection>,
    link: Option<Link>,
    /// The peer and the connection, in one descriptor. Edge triggered, so that they need not be taken out.
    events: OwnedFd,
    complained: bool,
}

impl Socket {
    /// Listens at `path` for one peer at a time; when that is gone, for another one. What a killed program has
    /// left there is replaced. Where the host has nothing left for a peer that has come, it is tried again as by
    /// [`Socket::connect`].
    pub fn listen(path: impl AsRef<Path>) -> Result<Self, SocketError> {
        Self::listen_with_clock(path, HostClock::default())
    }

    /// As [`Socket::listen`], in the time of `clock`.
    pub fn listen_with_clock(
        path: impl AsRef<Path>,
        clock: impl Clock,
    ) -> Result<Self, SocketError> {
        Self::of(Peer::listen(path.as_ref(), Box::new(clock))?)
    }

    /// Connects to whoever listens at `path`, now or later, and again when that is gone: after a tenth of a
    /// second, and after more and more up to five when it does not help. If that is for another reason than that
    /// nobody listens, such as a missing right, there is one line in the log.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, SocketError> {
        Self::connect_with_clock(path, HostClock::default())
    }

    /// As [`Socket::connect`], in the time of `clock`.
    pub fn connect_with_clock(
        path: impl AsRef<Path>,
        clock: impl Clock,
    ) -> Result<Self, SocketError> {
        Self::of(Peer::call(path.as_ref(), Box::new(clock))?)
    }

    fn of(peer: Peer) -> Result<Self, SocketError> {
        let events = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(SocketError::host)?;
        let flags = EventFlags::IN | EventFlags::ET;
        for fd in peer.fds() {
            epoll::add(&events, fd, EventData::new_u64(0), flags).map_err(SocketError::host)?;
        }
        let (connection, link) = (None, None);
        let mut socket = Self { peer, connection, link, events, complained: false };
        socket.reach();
        Ok(socket)
    }

    /// Whether there is a peer now.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Looks for a peer if there is none.
    fn reach(&mut self) {
        if self.connection.is_some() {
            return;
        }
        if let Some(stream) = self.peer.reach() {
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            match epoll::add(&self.events, &stream, EventData::new_u64(0), flags) {
                Ok(()) => self.connection = Some(Connection::new(stream)),
                Err(error) => {
                    tracing::debug!(%error, "the socket cannot be waited for");
                    self.peer.lost();
                }
            }
        }
        self.show();
    }

    /// The peer is gone, or shall be.
    fn hang_up(&mut self) {
        self.connection = None;
        self.peer.lost();
        // Another one may wait already. The guest is told that there was none in between.
        self.show();
        self.reach();
    }

    fn show(&self) {
        if let Some(link) = &self.link {
            link.set_up(self.is_connected());
        }
    }
}

impl NetBackend for Socket {
    /// Without a peer, frames are dropped.
    fn send(&mut self, _header: &NetHeader, frame: &mut Segments) -> io::Result<()> {
        let connection = self.connection.as_mut().ok_or(ErrorKind::NotConnected)?;
        let sent = connection.send(frame);
        if let Err(error) = &sent
            && connection::is_end(error)
        {
            self.hang_up();
        }
        sent
    }

    fn recv(&mut self, _header: &mut NetHeader, room: &mut Segments) -> io::Result<Received> {
        let Some(connection) = &mut self.connection else { return Ok(Received::Nothing) };
        match connection.recv(room) {
            Got::Frame(received) => {
                self.peer.is_well();
                return Ok(received);
            }
            Got::Nothing => return Ok(Received::Nothing),
            Got::End => {}
            Got::BadLength(len) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(
                        len,
                        "a frame of this length cannot be: the socket's peer is hung up on"
                    );
                }
            }
        }
        self.hang_up();
        // Another peer's frames come with an event of its own.
        Ok(Received::Nothing)
    }

    fn ready_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    fn ready(&mut self) {
        self.reach();
        let Some(connection) = &mut self.connection else { return };
        // Also who is gone is noticed here.
        connection.fill();
        let flushed = connection.flush();
        if connection.is_over() || flushed.is_err_and(|error| connection::is_end(&error)) {
            self.hang_up();
        }
    }

    fn plugged(&mut self, link: &Link) {
        self.link = Some(link.clone());
        self.show();
    }

    /// A card that was restored knows the link of another.
    fn set_active(&mut self, _active: bool) -> io::Result<()> {
        self.show();
        Ok(())
    }
}
