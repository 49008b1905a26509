//! ARP (RFC 826): cards of IPv4 addresses.

use std::net::{IpAddr, Ipv4Addr};

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetProtocol};

use crate::addresses::{GATEWAY, MAC, is_dns, is_gateway};
use crate::frames::Outbox;

/// Answers a question for one of our addresses. Returns whose card a packet tells.
pub(crate) fn input(packet: &[u8], outbox: &mut Outbox) -> Option<(IpAddr, EthernetAddress)> {
    let packet = ArpPacket::new_checked(packet).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: mac,
        source_protocol_addr: sender,
        target_protocol_addr: wanted,
        ..
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    let ours = is_gateway(wanted.into()) || is_dns(wanted.into());
    if operation == ArpOperation::Request && ours {
        push(outbox, mac, ArpOperation::Reply, wanted, (mac, sender));
    }
    mac.is_unicast().then_some((sender.into(), mac))
}

/// Asks who has `wanted`.
pub(crate) fn ask(wanted: Ipv4Addr, outbox: &mut Outbox) {
    let nobody = EthernetAddress([0; 6]);
    push(outbox, EthernetAddress::BROADCAST, ArpOperation::Request, GATEWAY, (nobody, wanted));
}

fn push(
    outbox: &mut Outbox,
    to: EthernetAddress,
    operation: ArpOperation,
    ours: Ipv4Addr,
    theirs: (EthernetAddress, Ipv4Addr),
) {
    let packet = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(MAC),
        source_protocol_addr: ours,
        target_hardware_addr: theirs.0,
        target_protocol_addr: theirs.1,
    };
    outbox.push(to, EthernetProtocol::Arp, packet.buffer_len(), |bytes| {
        packet.emit(&mut ArpPacket::new_unchecked(bytes));
    });
}
