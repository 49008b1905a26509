//! Sockets of the host, none of which ever blocks.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, SocketFlags, SocketType, bind, connect, ipproto, listen, socket_with,
    sockopt,
};

use crate::forward::{Forward, Transport};

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A connection to `address`, perhaps still under way.
pub(crate) fn tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket_with(family(address), SocketType::STREAM, FLAGS, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// A socket for datagrams to `address`, and from nobody else.
pub(crate) fn udp(address: SocketAddr) -> io::Result<OwnedFd> {
    datagram(address, None)
}

/// A socket for pings of `address`, for which no privileges are needed where the host's
/// net.ipv4.ping_group_range has this process (icmp(7)).
pub(crate) fn ping(address: SocketAddr) -> io::Result<OwnedFd> {
    datagram(address, Some(if address.is_ipv4() { ipproto::ICMP } else { ipproto::ICMPV6 }))
}

fn datagram(address: SocketAddr, protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let socket = socket_with(family(address), SocketType::DGRAM, FLAGS, protocol)?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// A socket for what comes to a forwarded port.
pub(crate) fn listener(forward: &Forward) -> io::Result<OwnedFd> {
    let address = forward.host;
    let kind = match forward.transport {
        Transport::Tcp => SocketType::STREAM,
        Transport::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(family(address), kind, FLAGS, None)?;
    if address.is_ipv6() {
        // `[::]` beside `0.0.0.0` is two options.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if forward.transport == Transport::Tcp {
        // Connections of an earlier run may linger.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    if forward.transport == Transport::Tcp {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}
