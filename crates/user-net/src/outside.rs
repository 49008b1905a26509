//! How the network gets to the world outside.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::socket;

/// Makes the sockets by which a guest's flows go on: those of this process ([`HostSockets`]), or others that
/// behave alike, such as those of another network namespace, of a proxy, or of a test.
///
/// What a guest may reach was decided before. No socket may block. An error is what the guest is told, as
/// far as its protocol can: `ECONNREFUSED`, `EHOSTUNREACH`, `ENETUNREACH`, `EACCES`.
pub trait Outside: fmt::Debug + Send {
    /// A stream to `to`, perhaps still under way: it becomes writable when it is there, and knows why not
    /// otherwise (`SO_ERROR`).
    fn tcp(&mut self, to: SocketAddr) -> io::Result<OwnedFd>;

    /// Datagrams to `to`, and from nobody else.
    fn udp(&mut self, to: SocketAddr) -> io::Result<OwnedFd>;

    /// ICMP echoes to `to`, with their header, and answers from there with theirs.
    fn ping(&mut self, to: SocketAddr) -> io::Result<OwnedFd>;
}

/// This process's own sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostSockets;

impl Outside for HostSockets {
    fn tcp(&mut self, to: SocketAddr) -> io::Result<OwnedFd> {
        socket::tcp(to)
    }

    fn udp(&mut self, to: SocketAddr) -> io::Result<OwnedFd> {
        socket::udp(to)
    }

    fn ping(&mut self, to: SocketAddr) -> io::Result<OwnedFd> {
        socket::ping(to)
    }
}
