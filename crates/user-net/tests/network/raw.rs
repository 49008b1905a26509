//! Frames by hand.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use cubie_user_net::{Gateway, addresses};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Packet, Icmpv6Repr, IpAddress,
    IpProtocol, IpRepr, UdpPacket, UdpRepr,
};

use crate::stack::MAC;

/// A frame of the guest's.
pub(crate) fn frame(to: EthernetAddress, kind: EthernetProtocol, payload: &[u8]) -> Vec<u8> {
    let mut frame = EthernetFrame::new_unchecked(vec![0; 14 + payload.len()]);
    frame.set_dst_addr(to);
    frame.set_src_addr(EthernetAddress(MAC));
    frame.set_ethertype(kind);
    frame.payload_mut().copy_from_slice(payload);
    frame.into_inner()
}

/// An IP packet of the guest's, in a frame.
pub(crate) fn ip(
    (from, to): (IpAddr, IpAddr),
    protocol: IpProtocol,
    hops: u8,
    payload: &[u8],
) -> Vec<u8> {
    let header = IpRepr::new(from.into(), to.into(), protocol, payload.len(), hops);
    let mut packet = vec![0; header.buffer_len()];
    header.emit(&mut packet[..], &ChecksumCapabilities::default());
    packet[header.header_len()..].copy_from_slice(payload);
    let kind = if from.is_ipv4() { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 };
    frame(EthernetAddress(addresses::MAC), kind, &packet)
}

pub(crate) fn send(
    gateway: &mut Gateway,
    to: EthernetAddress,
    kind: EthernetProtocol,
    payload: &[u8],
) {
    gateway.input(&frame(to, kind, payload), Instant::now());
}

/// A datagram of the guest's, in a frame.
pub(crate) fn datagram(ends: (IpAddr, IpAddr), ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let (from, to) = (IpAddress::from(ends.0), IpAddress::from(ends.1));
    let header = UdpRepr { src_port: ports.0, dst_port: ports.1 };
    let mut bytes = vec![0; header.header_len() + data.len()];
    let mut packet = UdpPacket::new_unchecked(&mut bytes[..]);
    let all = ChecksumCapabilities::default();
    header.emit(&mut packet, &from, &to, data.len(), |room| room.copy_from_slice(data), &all);
    ip(ends, IpProtocol::Udp, 64, &bytes)
}

pub(crate) fn udp(gateway: &mut Gateway, ends: (IpAddr, IpAddr), ports: (u16, u16), data: &[u8]) {
    gateway.input(&datagram(ends, ports, data), Instant::now());
}

pub(crate) fn icmp_v6(
    gateway: &mut Gateway,
    (from, to): (Ipv6Addr, Ipv6Addr),
    message: &Icmpv6Repr,
    hops: u8,
) {
    let mut bytes = vec![0; message.buffer_len()];
    let mut packet = Icmpv6Packet::new_unchecked(&mut bytes[..]);
    message.emit(&from, &to, &mut packet, &ChecksumCapabilities::default());
    gateway.input(&ip((from.into(), to.into()), IpProtocol::Icmpv6, hops, &bytes), Instant::now());
}

/// All frames that the gateway has now.
pub(crate) fn frames(gateway: &mut Gateway) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| gateway.output(Instant::now(), <[u8]>::to_vec)).collect()
}
