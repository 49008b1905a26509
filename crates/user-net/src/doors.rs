//! The host's ports that lead to the guest.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags, accept_with, getsockname, recvfrom};
use smoltcp::wire::EthernetAddress;

use crate::datagrams::Datagrams;
use crate::ends::Ends;
use crate::events::{Events, Token};
use crate::forward::{Forward, Transport};
use crate::ports::Ports;
use crate::table::Path;
use crate::tcp::Tcp;
use crate::{UserNetError, arp, ndp, socket, udp};

/// Connections that each port lets in in one turn, and datagrams that all of them do together: a quarter
/// of the frames that wait for the guest at most, so that its own flows have their part.
const TURN: usize = 32;
/// Peers of a UDP port that are remembered, of whom those without a flow are forgotten first.
const MOST_PEERS: usize = 1024;

/// All forwarded ports. What comes waits at the host's door until the guest has shown itself.
#[derive(Debug)]
pub(crate) struct Doors {
    doors: Vec<Door>,
    /// Who has the first turn next.
    first: usize,
    ports: Ports,
    buffer: Box<[u8]>,
}

/// One forwarded port.
#[derive(Debug)]
struct Door {
    forward: Forward,
    socket: Arc<OwnedFd>,
    token: Token,
    /// Somebody may be there.
    knocked: bool,
    /// Who has sent datagrams, as the guest knows them.
    peers: HashMap<SocketAddr, Path>,
}

impl Doors {
    pub(crate) fn open(forwards: &[Forward], events: &mut Events) -> Result<Self, UserNetError> {
        let doors = forwards.iter().map(|forward| {
            Door::open(*forward, events).map_err(|source| match source.kind() {
                io::ErrorKind::AddrInUse => UserNetError::InUse(*forward),
                _ => UserNetError::Listen { forward: *forward, source },
            })
        });
        let (ports, buffer) = (Ports::new(), vec![0; udp::LONGEST].into());
        Ok(Self { doors: doors.collect::<Result<_, _>>()?, first: 0, ports, buffer })
    }

    /// The forwarded ports, with those that the host has chosen in place of port 0.
    pub(crate) fn forwards(&self) -> impl Iterator<Item = Forward> {
        self.doors.iter().map(|door| door.forward)
    }

    /// Somebody knocks; `false` if it is another socket. A guest that nobody has seen is asked for.
    pub(crate) fn event(&mut self, token: Token, ends: &mut Ends) -> bool {
        let Some(door) = self.doors.iter_mut().find(|door| door.token == token) else {
            return false;
        };
        door.knocked = true;
        let guest = door.forward.guest.ip();
        if ends.neighbours.find(guest).is_none() {
            match guest {
                IpAddr::V4(guest) => arp::ask(guest, &mut ends.outbox),
                IpAddr::V6(guest) => ndp::ask(guest, &mut ends.outbox),
            }
        }
        true
    }

    /// Lets in who has knocked, each time another door first.
    pub(crate) fn serve(&mut self, tcp: &mut Tcp, udp: &mut Datagrams, ends: &mut Ends) {
        let Self { doors, first, ports, buffer } = self;
        *first = if *first + 1 < doors.len() { *first + 1 } else { 0 };
        let (last, next) = doors.split_at_mut(*first);
        let mut datagrams = TURN;
        for door in next.iter_mut().chain(last).filter(|door| door.knocked) {
            let Some(mac) = ends.neighbours.find(door.forward.guest.ip()) else { continue };
            match door.forward.transport {
                Transport::Tcp => door.accept(mac, tcp, ends),
                Transport::Udp => {
                    door.receive(mac, udp, (&mut *ports, &mut datagrams), buffer, ends);
                }
            }
        }
    }
}

impl Door {
    fn open(mut forward: Forward, events: &mut Events) -> io::Result<Self> {
        let socket = socket::listener(&forward)?;
        forward.host = getsockname(&socket)?.try_into()?;
        let token = events.watch(&socket)?;
        let (socket, peers) = (Arc::new(socket), HashMap::new());
        Ok(Self { forward, socket, token, knocked: false, peers })
    }

    fn accept(&mut self, mac: EthernetAddress, tcp: &mut Tcp, ends: &mut Ends) {
        for _ in 0..TURN {
            let host = accept_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC);
            match host
                .map_err(io::Error::from)
                .and_then(|host| tcp.forward(self.forward.guest, mac, host, ends))
            {
                Ok(()) => {}
                Err(error) => match Errno::from_io_error(&error) {
                    // Whoever it was has gone meanwhile.
                    Some(Errno::CONNABORTED) => {}
                    // Else whoever is there waits until there are descriptors again.
                    error => {
                        self.knocked = error != Some(Errno::AGAIN);
                        return;
                    }
                },
            }
        }
        // More may be there, but others have their turn first.
        ends.events.wake();
    }

    fn receive(
        &mut self,
        mac: EthernetAddress,
        udp: &mut Datagrams,
        (ports, left): (&mut Ports, &mut usize),
        buffer: &mut [u8],
        ends: &mut Ends,
    ) {
        let socket = Arc::clone(&self.socket);
        let mut failed = false;
        while *left > 0 && ends.outbox.has_room() {
            *left -= 1;
            match recvfrom(&socket, &mut *buffer, RecvFlags::empty()) {
                Ok((len, _, peer)) => {
                    let Some(peer) = peer.and_then(|peer| peer.try_into().ok()) else { continue };
                    let path = self.path_of(peer, udp, ports);
                    udp.forward(path, mac, (&socket, peer), &buffer[..len], ends);
                }
                // What became of an earlier answer, which is told once.
                Err(error) if error != Errno::AGAIN && !failed => failed = true,
                Err(_) => {
                    self.knocked = false;
                    return;
                }
            }
        }
        ends.events.wake();
    }

    /// The way to the guest that stands for `peer`.
    fn path_of(&mut self, peer: SocketAddr, udp: &Datagrams, ports: &mut Ports) -> Path {
        let Self { forward, socket, peers, .. } = self;
        if peers.len() >= MOST_PEERS && !peers.contains_key(&peer) {
            peers.retain(|_, path| udp.contains(path));
        }
        match peers.get(&peer) {
            Some(path) if udp.leads_to(path, socket, peer) => *path,
            _ => {
                let path = ports.path_to(forward.guest, |path| udp.contains(path));
                peers.insert(peer, path);
                path
            }
        }
    }
}
