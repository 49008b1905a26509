//! What the guest sends, and what it makes of what it is sent.

use std::net::{IpAddr, Ipv6Addr};

use cubie_user_net::addresses::{GATEWAY, GATEWAY6, GUEST, MAC, PREFIX};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, IpRepr, Ipv4Packet,
    Ipv6Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::host::{heard, said};

/// The guest's first port; one for each of its connections.
const PORT: u16 = 4000;
/// The port of the other ends whose connections are looked at, byte for byte.
pub(super) const CHECKED: u16 = 80;
/// Of all its connections.
const FIRST: TcpSeqNumber = TcpSeqNumber(-1000);

/// What has come.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) opened: usize,
    pub(super) bytes: usize,
    pub(super) ended: usize,
    pub(super) reset: usize,
    pub(super) datagrams: usize,
    pub(super) messages: usize,
    pub(super) long: usize,
}

/// One of the guest's connections; it has had others before between the same ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    next: TcpSeqNumber,
    /// Of the other end: its first byte, and the next one that is expected.
    first: Option<TcpSeqNumber>,
    expected: TcpSeqNumber,
}

impl Default for Connection {
    fn default() -> Self {
        Self { next: FIRST + 1, first: None, expected: TcpSeqNumber(0) }
    }
}

/// The ends of a connection: of IPv6 every other one.
pub(super) fn ends(number: u8) -> (IpAddr, IpAddr) {
    let mut own = PREFIX.segments();
    own[7] = 15;
    match number & 1 {
        0 => (GUEST.into(), GATEWAY.into()),
        _ => (Ipv6Addr::from(own).into(), GATEWAY6.into()),
    }
}

/// A frame for the gateway.
pub(super) fn frame(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = EthernetFrame::new_unchecked(vec![0; 14 + payload.len()]);
    frame.set_dst_addr(EthernetAddress(MAC));
    frame.set_src_addr(EthernetAddress([2, 0, 0, 0, 0, 15]));
    frame.set_ethertype(EthernetProtocol::from(kind));
    frame.payload_mut().copy_from_slice(payload);
    frame.into_inner()
}

/// A packet with a header that is right.
pub(super) fn ip(number: u8, protocol: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let (from, to) = ends(number);
    let protocol = IpProtocol::from(protocol);
    let header = IpRepr::new(from.into(), to.into(), protocol, payload.len(), hops);
    let mut packet = vec![0; header.buffer_len()];
    header.emit(&mut packet[..], &ChecksumCapabilities::default());
    packet[header.header_len()..].copy_from_slice(payload);
    frame(if from.is_ipv4() { 0x0800 } else { 0x86dd }, &packet)
}

pub(super) fn datagram(number: u8, data: &[u8]) -> Vec<u8> {
    let (from, to) = ends(number);
    let header = UdpRepr { src_port: PORT + u16::from(number), dst_port: 53 };
    let mut bytes = vec![0; header.header_len() + data.len()];
    let mut packet = UdpPacket::new_unchecked(&mut bytes[..]);
    let all = ChecksumCapabilities::default();
    let fill = |room: &mut [u8]| room.copy_from_slice(data);
    header.emit(&mut packet, &from.into(), &to.into(), data.len(), fill, &all);
    ip(number, 17, 64, &bytes)
}

impl Connection {
    /// A segment that is `off` from where it should be, with what belongs there.
    pub(super) fn segment(
        &mut self,
        number: u8,
        (off, ack): (i16, i16),
        len: usize,
        segment: TcpRepr<'static>,
    ) -> Vec<u8> {
        let opens = segment.control == TcpControl::Syn;
        if opens {
            *self = Self::default();
        }
        // All connections begin alike.
        let (right, off) = if opens { (FIRST, 0) } else { (self.next, off) };
        let at = TcpSeqNumber(right.0.wrapping_add(off.into()));
        let from = at.0.wrapping_sub((FIRST + 1).0) + i32::from(opens);
        let payload: Vec<u8> =
            (0..len).map(|n| heard(from.wrapping_add(n as i32) as usize)).collect();
        let ack = TcpSeqNumber(self.expected.0.wrapping_add(ack.into()));
        let segment = TcpRepr {
            src_port: PORT + u16::from(number),
            dst_port: CHECKED,
            seq_number: at,
            ack_number: self.first.map(|_| ack),
            payload: &payload,
            ..segment
        };
        if off == 0 {
            self.next = at + segment.segment_len();
        }
        let (from, to) = ends(number);
        let mut bytes = vec![0; segment.buffer_len()];
        let (from, to) = (IpAddress::from(from), IpAddress::from(to));
        let none = ChecksumCapabilities::ignored();
        segment.emit(&mut TcpPacket::new_unchecked(&mut bytes[..]), &from, &to, &none);
        ip(number, 6, 64, &bytes)
    }

    fn came(&mut self, segment: &TcpPacket<&[u8]>, tally: &mut Tally) {
        let at = segment.seq_number();
        tally.reset += usize::from(segment.rst());
        tally.ended += usize::from(segment.fin());
        if segment.syn() {
            tally.opened += 1;
            (self.first, self.expected) = (Some(at + 1), at + 1);
        }
        let Some(first) = self.first else { return };
        let from = at.0.wrapping_sub(first.0);
        let payload = segment.payload();
        let right = (0..).map(|n: i32| said(from.wrapping_add(n) as usize));
        assert!(payload.iter().copied().eq(right.take(payload.len())), "what the host said");
        tally.bytes += payload.len();
        if at == self.expected {
            self.expected = at + segment.segment_len();
        }
    }
}

/// Whether a frame may belong to a connection whose bytes are looked at.
pub(super) fn is_checked(frame: &[u8]) -> bool {
    let Ok(frame) = EthernetFrame::new_checked(frame) else { return false };
    let bytes = frame.payload();
    let (protocol, start) = match bytes.first().map_or(0, |byte| byte >> 4) {
        4 => (bytes.get(9), usize::from(bytes[0] & 15) * 4),
        _ => (bytes.get(6), 40),
    };
    protocol == Some(&6) && bytes.get(start + 2..start + 4) == Some(&CHECKED.to_be_bytes())
}

/// The guest is sent a frame.
pub(super) fn came(frame: &[u8], connections: &mut [Connection], tally: &mut Tally) {
    let frame = EthernetFrame::new_checked(frame).expect("a frame");
    let (protocol, payload) = match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).expect("a packet");
            assert!(packet.verify_checksum());
            (packet.next_header(), packet.payload())
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).expect("a packet");
            (packet.next_header(), packet.payload())
        }
        _ => return,
    };
    match protocol {
        IpProtocol::Tcp => {
            let segment = TcpPacket::new_checked(payload).expect("a segment");
            let number = segment.dst_port().wrapping_sub(PORT);
            let own = connections.get_mut(usize::from(number));
            if let Some(own) = own.filter(|_| segment.src_port() == CHECKED) {
                own.came(&segment, tally);
            }
        }
        IpProtocol::Udp => tally.datagrams += 1,
        _ => tally.messages += 1,
    }
}
