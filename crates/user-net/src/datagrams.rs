//! Flows of datagrams, each with a socket of the host's that is connected to its other end: UDP, and
//! pings of other hosts.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sendto};
use smoltcp::wire::{EthernetAddress, IpProtocol};

use crate::ends::Ends;
use crate::events::Token;
use crate::frames::Outbox;
use crate::icmp::{self, Echo, Unreachable};
use crate::table::{Began, Path, Table};
use crate::udp;

/// Bytes of a packet that an error about it quotes.
const QUOTED: usize = 64;

/// What the datagrams are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Udp,
    /// ICMP echoes. The port of a path's guest is their identifier, that of the remote is 0.
    Ping,
}

/// All flows of one kind.
#[derive(Debug)]
pub(crate) struct Datagrams {
    kind: Kind,
    flows: Table<Flow>,
    /// Flows that may have something for the guest.
    waiting: VecDeque<Path>,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Flow {
    socket: Arc<OwnedFd>,
    /// Where to send to by a socket that is not connected: a forwarded port.
    peer: Option<SocketAddr>,
    mac: EthernetAddress,
    /// It is one of those that wait for room.
    waiting: bool,
}

impl Datagrams {
    /// Room for `most` flows of the guest's and `most_inward` that come in, each of which may be `idle` for
    /// so long.
    pub(crate) fn new(kind: Kind, most: usize, most_inward: usize, idle: Duration) -> Self {
        let flows = Table::new(most, most_inward, idle);
        Self { kind, flows, waiting: VecDeque::new(), buffer: vec![0; udp::LONGEST].into() }
    }

    /// The guest sends `datagram`; `packet` is what it is in behind the IP header.
    pub(crate) fn send(
        &mut self,
        path: Path,
        mac: EthernetAddress,
        datagram: &[u8],
        packet: &[u8],
        ends: &mut Ends,
    ) {
        let sent = match self.flows.touch(&path, ends.now) {
            Some(flow) => flow.send(datagram),
            None => self.open(path, mac, ends).and_then(|flow| flow.send(datagram)),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, remote = %path.remote, "a datagram does not leave");
            let quote = &packet[..packet.len().min(QUOTED)];
            let error = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            tell(self.kind, path, mac, quote, error, &mut ends.outbox);
        }
    }

    /// A flow that begins on the host's side: `peer` has sent something to a forwarded port, and gets
    /// answers by that port's `socket`.
    pub(crate) fn forward(
        &mut self,
        path: Path,
        mac: EthernetAddress,
        (socket, peer): (&Arc<OwnedFd>, SocketAddr),
        datagram: &[u8],
        ends: &mut Ends,
    ) {
        if self.flows.touch(&path, ends.now).is_none() {
            self.make_room(Began::Host);
            let flow = Flow { socket: Arc::clone(socket), peer: Some(peer), mac, waiting: false };
            self.flows.insert(path, (Began::Host, None), flow, ends.now);
        }
        push(self.kind, path, mac, datagram, &mut ends.outbox);
    }

    pub(crate) fn contains(&self, path: &Path) -> bool {
        self.flows.contains(path)
    }

    /// Whether what the guest answers in `path` goes to `peer` by `socket`.
    pub(crate) fn leads_to(&self, path: &Path, socket: &Arc<OwnedFd>, peer: SocketAddr) -> bool {
        let flow = self.flows.peek(path);
        flow.is_some_and(|flow| flow.peer == Some(peer) && Arc::ptr_eq(&flow.socket, socket))
    }

    /// Something has happened to a socket; `false` if it is of another kind.
    pub(crate) fn event(&mut self, token: Token) -> bool {
        let Some(path) = self.flows.path_of(token) else { return false };
        let flow = self.flows.get(&path);
        if flow.is_some_and(|flow| !std::mem::replace(&mut flow.waiting, true)) {
            self.waiting.push_back(path);
        }
        true
    }

    /// Brings the guest what has come, as long as there is room.
    pub(crate) fn serve(&mut self, ends: &mut Ends) {
        while ends.outbox.has_room() {
            let Some(path) = self.waiting.pop_front() else { return };
            self.receive(path, ends);
        }
    }

    /// Ends what was idle for too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        for path in self.flows.expired(now) {
            self.remove(&path);
        }
    }

    /// When to call [`Datagrams::expire`].
    pub(crate) fn next(&self) -> Option<Instant> {
        self.flows.next()
    }

    fn open(&mut self, path: Path, mac: EthernetAddress, ends: &mut Ends) -> io::Result<&mut Flow> {
        let socket = match self.kind {
            Kind::Udp => {
                let host = ends.nat.host_address_of(&path, ends.now);
                ends.outside.udp(host.ok_or(Errno::PERM)?)?
            }
            Kind::Ping if ends.nat.may_ping(path.remote.ip()) => ends.outside.ping(path.remote)?,
            Kind::Ping => return Err(Errno::PERM.into()),
        };
        let token = ends.events.watch(&socket)?;
        self.make_room(Began::Guest);
        let flow = Flow { socket: Arc::new(socket), peer: None, mac, waiting: false };
        self.flows.insert(path, (Began::Guest, Some(token)), flow, ends.now);
        self.flows.get(&path).ok_or(io::ErrorKind::NotFound.into())
    }

    fn make_room(&mut self, began: Began) {
        let oldest = self.flows.in_the_way(began);
        oldest.into_iter().for_each(|path| self.remove(&path));
    }

    fn remove(&mut self, path: &Path) {
        if self.flows.remove(path).is_some_and(|flow| flow.waiting) {
            self.waiting.retain(|waiting| waiting != path);
        }
    }

    /// What the host's side has sent goes to the guest, as long as there is room.
    fn receive(&mut self, path: Path, ends: &mut Ends) {
        let Self { kind, flows, buffer, .. } = self;
        let mut failed = false;
        while ends.outbox.has_room() {
            let Some(flow) = flows.get(&path) else { return };
            let Flow { socket, mac, waiting, .. } = flow;
            let mac = *mac;
            match recv(&*socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((len, _)) => {
                    failed = false;
                    flows.touch(&path, ends.now);
                    push(*kind, path, mac, &buffer[..len], &mut ends.outbox);
                }
                // What became of an earlier datagram, which is told once.
                Err(error) if error != Errno::AGAIN && !failed => {
                    failed = true;
                    let quote = quote(*kind, path);
                    tell(*kind, path, mac, &quote, error, &mut ends.outbox);
                }
                Err(_) => {
                    *waiting = false;
                    return;
                }
            }
        }
        self.waiting.push_back(path);
    }
}

impl Flow {
    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        match &self.peer {
            None => send(&self.socket, datagram, SendFlags::NOSIGNAL)?,
            Some(peer) => sendto(&self.socket, datagram, SendFlags::NOSIGNAL, peer)?,
        };
        Ok(())
    }
}

/// A datagram from the other end of `path` to the guest.
fn push(kind: Kind, path: Path, mac: EthernetAddress, datagram: &[u8], outbox: &mut Outbox) {
    match (kind, datagram) {
        (Kind::Udp, _) => {
            udp::push(outbox, mac, path, datagram.len(), |bytes| bytes.copy_from_slice(datagram));
        }
        // The kernel has put a number of its own in the place of the guest's.
        (Kind::Ping, [icmp::REPLY_V4 | icmp::REPLY_V6, _, _, _, _, _, high, low, data @ ..]) => {
            let (ident, sequence) = (path.guest.port(), u16::from_be_bytes([*high, *low]));
            let ends = (path.remote.ip(), path.guest.ip());
            icmp::reply(outbox, mac, ends, Echo { ident, sequence, data });
        }
        (Kind::Ping, _) => {}
    }
}

/// Tells the guest that a datagram did not arrive, which began with `quote`.
fn tell(
    kind: Kind,
    path: Path,
    mac: EthernetAddress,
    quote: &[u8],
    error: Errno,
    outbox: &mut Outbox,
) {
    let why = match error {
        Errno::CONNREFUSED => Unreachable::Port,
        Errno::NETUNREACH | Errno::HOSTUNREACH => Unreachable::Host,
        Errno::PERM | Errno::ACCESS => Unreachable::Prohibited,
        // No room, or too long: lost, as on any network.
        _ => return,
    };
    icmp::unreachable(outbox, mac, path, kind.protocol(path), quote, why);
}

/// What the guest's datagrams of a flow begin with, as far as it tells whose they are.
fn quote(kind: Kind, path: Path) -> [u8; 8] {
    let [a, b] = path.guest.port().to_be_bytes();
    let [c, d] = path.remote.port().to_be_bytes();
    match kind {
        Kind::Udp => [a, b, c, d, 0, 8, 0, 0],
        Kind::Ping if path.guest.is_ipv4() => [icmp::REQUEST_V4, 0, 0, 0, a, b, 0, 0],
        Kind::Ping => [icmp::REQUEST_V6, 0, 0, 0, a, b, 0, 0],
    }
}

impl Kind {
    fn protocol(self, path: Path) -> IpProtocol {
        match (self, path.guest.is_ipv4()) {
            (Self::Udp, _) => IpProtocol::Udp,
            (Self::Ping, true) => IpProtocol::Icmp,
            (Self::Ping, false) => IpProtocol::Icmpv6,
        }
    }
}
