//! What a network allows, and how much of it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Forward;

/// What the guest may reach, who may reach the guest, and how much of all this there may be.
///
/// The default: the guest reaches everything that the host's process reaches, and nobody reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Ports of the host that lead to ports of the guest.
    pub forwards: Vec<Forward>,
    /// The guest reaches nothing: it gets its address, and answers to `forwards`.
    pub restrict: bool,
    /// Whether what goes to the gateway's address reaches the host's own loopback interface: all
    /// services there, also those that rely on nobody else reaching them.
    pub host_loopback: bool,
    /// Where the guest's DNS queries go; empty for the first server of the host's `/etc/resolv.conf`.
    /// With several, the first one.
    pub resolvers: Vec<SocketAddr>,
    /// How much there may be.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            forwards: vec![],
            restrict: false,
            host_loopback: true,
            resolvers: vec![],
            limits: Limits::default(),
        }
    }
}

/// Bounds of what a guest can make the host hold. Where there is no room for a new flow, the one that
/// was silent for the longest time gives way, of those that began on the same side: who comes by a
/// forwarded port takes no place of the guest's own flows, nor they of those. Each number of flows is at
/// least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections of the guest's; each has a socket of the host and up to twice
    /// [`Limits::tcp_buffer`].
    pub tcp_flows: usize,
    /// The same of those that come by forwarded ports.
    pub tcp_inward: usize,
    /// Bytes of a TCP connection on their way, in each direction; the guest's window.
    pub tcp_buffer: usize,
    /// A TCP connection without a byte for so long is reset.
    pub tcp_idle: Duration,
    /// UDP flows of the guest's; each has a socket of the host.
    pub udp_flows: usize,
    /// Those that come by forwarded ports, of which they have the sockets.
    pub udp_inward: usize,
    /// A UDP flow without a datagram for so long is forgotten.
    pub udp_idle: Duration,
    /// Pings of hosts outside; each has a socket of the host.
    pub ping_flows: usize,
    /// A ping without a packet for so long is forgotten.
    pub ping_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tcp_flows: 256,
            tcp_inward: 128,
            tcp_buffer: 128 << 10,
            tcp_idle: Duration::from_secs(2 * 60 * 60),
            udp_flows: 256,
            udp_inward: 256,
            udp_idle: Duration::from_secs(60),
            ping_flows: 16,
            ping_idle: Duration::from_secs(10),
        }
    }
}
