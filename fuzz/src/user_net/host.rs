//! The world outside, without a network: each socket's other end is here.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::{Arc, Mutex};

use cubie_user_net::Outside;

use super::guest::CHECKED;

/// Byte `at` of what the host says in a connection.
pub(super) fn said(at: usize) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 13) as u8
}

/// Byte `at` of what the guest says in a connection.
pub(super) fn heard(at: usize) -> u8 {
    !said(at)
}

/// All other ends there have been.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) streams: Vec<Stream>,
    pub(super) datagrams: Vec<UnixDatagram>,
    /// The next connections are refused.
    pub(super) refuses: bool,
}

#[derive(Debug)]
pub(super) struct Stream {
    end: UnixStream,
    is_checked: bool,
    said: usize,
    heard: usize,
}

impl Stream {
    /// Says `len` bytes more, or as many as there is room for.
    pub(super) fn say(&mut self, len: usize) {
        let bytes = Vec::from_iter((self.said..self.said + len).map(said));
        self.said += self.end.write(&bytes).unwrap_or(0);
    }

    /// Reads all that is there; `true` if the other end has ended or is gone.
    pub(super) fn hear(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.end.read(&mut bytes) {
                Ok(0) => return true,
                Ok(len) => {
                    let right = (self.heard..).map(heard);
                    let as_said = bytes[..len].iter().copied().eq(right.take(len));
                    assert!(as_said || !self.is_checked, "what the guest said");
                    self.heard += len;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
    }

    pub(super) fn has_heard(&self) -> usize {
        self.heard
    }

    pub(super) fn shut(&self) {
        let _ = self.end.shutdown(std::net::Shutdown::Write);
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Host(pub(super) Arc<Mutex<World>>);

impl Host {
    fn datagram(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = UnixDatagram::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        self.0.lock().expect("nothing has panicked").datagrams.push(ours);
        Ok(theirs.into())
    }
}

impl Outside for Host {
    fn tcp(&mut self, to: SocketAddr) -> io::Result<OwnedFd> {
        let mut world = self.0.lock().expect("nothing has panicked");
        if world.refuses {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let is_checked = to.port() == CHECKED;
        world.streams.push(Stream { end: ours, is_checked, said: 0, heard: 0 });
        Ok(theirs.into())
    }

    fn udp(&mut self, _: SocketAddr) -> io::Result<OwnedFd> {
        self.datagram()
    }

    fn ping(&mut self, _: SocketAddr) -> io::Result<OwnedFd> {
        self.datagram()
    }
}
