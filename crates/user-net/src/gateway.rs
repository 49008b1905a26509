//! The other end of the guest's cable: frames in, frames out.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use cubie_virtio_core::Features;
use cubie_virtio_net::NetHeader;
use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol};

use crate::addresses::MAC;
use crate::datagrams::{Datagrams, Kind};
use crate::doors::Doors;
use crate::ends::Ends;
use crate::events::{Events, Token};
use crate::frames::Outbox;
use crate::nat::Nat;
use crate::neighbours::Neighbours;
use crate::outside::{HostSockets, Outside};
use crate::packet::Packet;
use crate::tcp::{Tcp, earlier};
use crate::{Config, Forward, UserNetError, arp};

/// Batches of events that one turn looks at: a host where more and more happens has others wait.
const BATCHES: usize = 16;

/// The gateway of a guest's network, as bytes: for cards of another kind, and for tests.
///
/// Nothing in it blocks or has a thread. Time is an argument, and does not go back. Its descriptor
/// becomes readable when there is something to do that [`Gateway::output`] does; edge triggered is
/// enough for those who call that until it returns `None`.
pub struct Gateway {
    ends: Ends,
    doors: Doors,
    tcp: Tcp,
    udp: Datagrams,
    pings: Datagrams,
    /// Kept for its memory.
    tokens: Vec<Token>,
}

impl Gateway {
    /// A network as `config` has it, which listens on its forwarded ports.
    pub fn new(config: &Config, now: Instant) -> Result<Self, UserNetError> {
        Self::reaching(Box::new(HostSockets), config, now)
    }

    /// The same with another way to the world `outside`; its forwarded ports are this process's.
    pub fn reaching(
        outside: Box<dyn Outside>,
        config: &Config,
        now: Instant,
    ) -> Result<Self, UserNetError> {
        let mut events = Events::new()?;
        let doors = Doors::open(&config.forwards, &mut events)?;
        let (outbox, neighbours, nat) =
            (Outbox::default(), Neighbours::default(), Nat::new(config));
        let mut ends = Ends { outbox, events, outside, nat, neighbours, now };
        let limits = &config.limits;
        Ok(Self {
            tcp: Tcp::new(limits, &mut ends),
            udp: Datagrams::new(Kind::Udp, limits.udp_flows, limits.udp_inward, limits.udp_idle),
            // None come in.
            pings: Datagrams::new(Kind::Ping, limits.ping_flows, 0, limits.ping_idle),
            ends,
            doors,
            tokens: vec![],
        })
    }

    /// The forwarded ports, with those that the host has chosen where port 0 was asked for.
    pub fn forwards(&self) -> impl Iterator<Item = Forward> {
        self.doors.forwards()
    }

    /// Takes an Ethernet frame from the guest, with whatever in it. Checksums of TCP and UDP are not
    /// looked at, and a segment may be as long as a packet can be: what comes through memory is as it
    /// was sent, and the guest may leave the rest to its card.
    pub fn input(&mut self, frame: &[u8], now: Instant) {
        self.ends.now = now;
        let Ok(frame) = EthernetFrame::new_checked(frame) else { return };
        let (from, to) = (frame.src_addr(), frame.dst_addr());
        if !from.is_unicast() || to.is_unicast() && to != EthernetAddress(MAC) {
            return;
        }
        match frame.ethertype() {
            EthernetProtocol::Arp => {
                let told = arp::input(frame.payload(), &mut self.ends.outbox);
                told.into_iter().for_each(|(address, mac)| self.learn(address, mac));
            }
            EthernetProtocol::Ipv4 | EthernetProtocol::Ipv6 => self.packet(frame.payload(), from),
            _ => {}
        }
        if !self.ends.outbox.is_empty() || self.tcp.is_busy() || self.is_early() {
            self.ends.events.wake();
        }
    }

    /// Shows the next frame for the guest to `take`, and removes it; `None` if there is none now. It is
    /// no longer than the guest's interface takes, and nothing is left to do to it.
    pub fn output<R>(&mut self, now: Instant, take: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.output_with(now, Features::default(), |_, frame| take(frame))
    }

    /// The same for a guest that does itself what `offloads` say of TCP over IPv4 and IPv6:
    /// checksums (`VIRTIO_NET_F_GUEST_CSUM`) and segments (`VIRTIO_NET_F_GUEST_TSO4`, `…6`). A frame may
    /// have up to 65,549 bytes then, and the header says what is left to do to it.
    pub fn output_with<R>(
        &mut self,
        now: Instant,
        offloads: Features,
        take: impl FnOnce(&NetHeader, &[u8]) -> R,
    ) -> Option<R> {
        self.ends.now = now;
        if self.ends.outbox.is_empty() {
            self.run();
        }
        self.ends.outbox.pop(offloads, take)
    }

    /// What has happened on the host, what time it is, and what follows from both: as long as there is
    /// room for it.
    fn run(&mut self) {
        let Self { ends, doors, tcp, udp, pings, tokens } = self;
        tcp.expire(ends);
        udp.expire(ends.now);
        pings.expire(ends.now);
        for _ in 0..BATCHES {
            ends.events.take(tokens);
            for token in tokens.drain(..) {
                let _whose = tcp.event(token)
                    || udp.event(token)
                    || pings.event(token)
                    || doors.event(token, ends);
            }
            if ends.events.were_all() {
                break;
            }
        }
        doors.serve(tcp, udp, ends);
        tcp.serve(ends);
        udp.serve(ends);
        pings.serve(ends);
        if !ends.events.were_all() {
            ends.events.wake();
        }
        if let Some(next) = self.next() {
            self.ends.events.set_timer(next, self.ends.now);
        }
    }

    /// When there will be something to do whatever happens.
    fn next(&self) -> Option<Instant> {
        earlier(self.tcp.next(), earlier(self.udp.next(), self.pings.next()))
    }

    /// Something has to be done before the timer fires.
    fn is_early(&self) -> bool {
        self.next().is_some_and(|next| !self.ends.events.is_set_for(next, self.ends.now))
    }

    /// Whose card it is.
    fn learn(&mut self, address: IpAddr, mac: EthernetAddress) {
        if self.ends.neighbours.learn(address, mac) {
            // Somebody may have been waiting for this one.
            self.ends.events.wake();
        }
    }

    fn packet(&mut self, bytes: &[u8], mac: EthernetAddress) {
        let Some(packet) = Packet::parse(bytes) else { return };
        self.learn(packet.from, mac);
        let Self { ends, tcp, udp, pings, .. } = self;
        packet.deliver(mac, tcp, udp, pings, ends);
    }
}

impl AsFd for Gateway {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ends.events.as_fd()
    }
}
