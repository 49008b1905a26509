//! An IP packet of the guest's, and who takes it.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet,
    Ipv6Packet, TcpPacket, UdpPacket,
};

use crate::addresses::{is_dns, is_gateway};
use crate::datagrams::Datagrams;
use crate::ends::Ends;
use crate::icmp::{self, Echo};
use crate::table::Path;
use crate::tcp::{Place, Syn, Tcp};
use crate::{dhcp, ndp};

/// A whole packet.
#[derive(Debug)]
pub(crate) struct Packet<'a> {
    pub(crate) from: IpAddr,
    to: IpAddr,
    protocol: IpProtocol,
    /// Routers have passed it on for as many times less as this is less than 255.
    hops: u8,
    /// With its header, and without.
    whole: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// `None` for what is malformed, for parts of a packet, and for what comes from nobody.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => {
                let packet = Ipv4Packet::new_checked(bytes).ok()?;
                let part = packet.more_frags() || packet.frag_offset() != 0;
                let from = packet.src_addr();
                let nobody = from.is_multicast() || from.is_broadcast() || from.is_loopback();
                (packet.verify_checksum() && !part && !nobody).then_some(())?;
                Some(Self {
                    from: from.into(),
                    to: packet.dst_addr().into(),
                    protocol: packet.next_header(),
                    hops: packet.hop_limit(),
                    whole: &bytes[..packet.total_len().into()],
                    payload: packet.payload(),
                })
            }
            6 => {
                let packet = Ipv6Packet::new_checked(bytes).ok()?;
                let from = packet.src_addr();
                (!from.is_multicast() && !from.is_loopback()).then_some(())?;
                Some(Self {
                    from: from.into(),
                    to: packet.dst_addr().into(),
                    protocol: packet.next_header(),
                    hops: packet.hop_limit(),
                    whole: &bytes[..packet.total_len()],
                    payload: packet.payload(),
                })
            }
            _ => None,
        }
    }

    /// Hands it to whom it is for; other packets go nowhere.
    pub(crate) fn deliver(
        &self,
        mac: EthernetAddress,
        tcp: &mut Tcp,
        udp: &mut Datagrams,
        pings: &mut Datagrams,
        ends: &mut Ends,
    ) {
        match self.protocol {
            IpProtocol::Tcp if self.is_between_two() => self.segment(mac, tcp, ends),
            IpProtocol::Udp => self.datagram(mac, udp, ends),
            IpProtocol::Icmp => self.icmp_v4(mac, pings, ends),
            IpProtocol::Icmpv6 => self.icmp_v6(mac, pings, ends),
            _ => {}
        }
    }

    fn segment(&self, mac: EthernetAddress, tcp: &mut Tcp, ends: &mut Ends) {
        let Ok(segment) = TcpPacket::new_checked(self.payload) else { return };
        let syn = Syn::of(&segment, self.from, self.to);
        let path = self.path(segment.src_port(), segment.dst_port());
        tcp.input(path, mac, self.whole, (Place::of(&segment), syn), ends);
    }

    fn datagram(&self, mac: EthernetAddress, udp: &mut Datagrams, ends: &mut Ends) {
        let Ok(datagram) = UdpPacket::new_checked(self.payload) else { return };
        let (from, to) = (datagram.src_port(), datagram.dst_port());
        if to == dhcp::SERVER_PORT && self.to.is_ipv4() {
            dhcp::input(datagram.payload(), mac, &mut ends.outbox);
        } else if self.is_between_two() && from != 0 {
            udp.send(self.path(from, to), mac, datagram.payload(), self.payload, ends);
        }
    }

    fn icmp_v4(&self, mac: EthernetAddress, pings: &mut Datagrams, ends: &mut Ends) {
        let Ok(packet) = Icmpv4Packet::new_checked(self.payload) else { return };
        let message = Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default());
        if let Ok(Icmpv4Repr::EchoRequest { ident, seq_no, data }) = message {
            self.echo(mac, Echo { ident, sequence: seq_no, data }, pings, ends);
        }
    }

    fn icmp_v6(&self, mac: EthernetAddress, pings: &mut Datagrams, ends: &mut Ends) {
        let (IpAddr::V6(from), IpAddr::V6(to)) = (self.from, self.to) else { return };
        let Ok(packet) = Icmpv6Packet::new_checked(self.payload) else { return };
        let all = ChecksumCapabilities::default();
        match Icmpv6Repr::parse(&from, &to, &packet, &all) {
            Ok(Icmpv6Repr::EchoRequest { ident, seq_no, data }) => {
                self.echo(mac, Echo { ident, sequence: seq_no, data }, pings, ends);
            }
            // Not what a router has passed on (RFC 4861 §7.1).
            Ok(Icmpv6Repr::Ndisc(message)) if self.hops == 255 => {
                let told = ndp::input(message, from, mac, &mut ends.outbox);
                told.into_iter().for_each(|(address, mac)| {
                    ends.neighbours.learn(address, mac);
                });
            }
            _ => {}
        }
    }

    fn echo(&self, mac: EthernetAddress, echo: Echo<'_>, pings: &mut Datagrams, ends: &mut Ends) {
        if !self.is_between_two() {
            return;
        }
        if is_gateway(self.to) || is_dns(self.to) {
            return icmp::reply(&mut ends.outbox, mac, (self.to, self.from), echo);
        }
        pings.send(self.path(echo.ident, 0), mac, self.payload, self.payload, ends);
    }

    /// From somebody, and to one machine.
    fn is_between_two(&self) -> bool {
        let many = match self.to {
            IpAddr::V4(to) => to.is_multicast() || to.is_broadcast(),
            IpAddr::V6(to) => to.is_multicast(),
        };
        !many && !self.to.is_unspecified() && !self.from.is_unspecified()
    }

    fn path(&self, guest: u16, remote: u16) -> Path {
        Path { guest: SocketAddr::new(self.from, guest), remote: SocketAddr::new(self.to, remote) }
    }
}
