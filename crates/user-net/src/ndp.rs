//! IPv6's neighbour discovery and router advertisements (RFC 4861): cards, and the guest's prefix.

use std::net::{IpAddr, Ipv6Addr};

use smoltcp::phy::{Checksum, ChecksumCapabilities};
use smoltcp::time::Duration;
use smoltcp::wire::{
    EthernetAddress, Icmpv6Packet, Icmpv6Repr, IpProtocol, NdiscNeighborFlags,
    NdiscPrefixInfoFlags, NdiscPrefixInformation, NdiscRepr, NdiscRouterFlags,
};

use crate::addresses::{DNS6, GATEWAY6, LINK_LOCAL, MAC, MTU, PREFIX, is_dns, is_gateway};
use crate::frames::Outbox;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The card's group of [`ALL_NODES`] (RFC 2464 §7).
const ALL_NODES_MAC: EthernetAddress = EthernetAddress([0x33, 0x33, 0, 0, 0, 1]);
/// How long the guest may rely on us without hearing from us: as long as can be said in the header
/// (RFC 8319 §4), and a guest asks at each start.
const LIFETIME: u16 = u16::MAX;
/// For ever (RFC 4861 §4.6.2).
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
/// Bytes of the option with one name server (RFC 8106 §5.1).
const RDNSS_LEN: usize = 24;

/// Answers what a guest asks its neighbours; `from` is of the packet's header, which came over one hop.
/// Returns whose card the packet tells.
pub(crate) fn input(
    message: NdiscRepr,
    from: Ipv6Addr,
    mac: EthernetAddress,
    outbox: &mut Outbox,
) -> Option<(IpAddr, EthernetAddress)> {
    match message {
        NdiscRepr::RouterSolicit { .. } => advertise_router(outbox),
        NdiscRepr::NeighborSolicit { target_addr: wanted, .. }
            if is_gateway(wanted.into()) || is_dns(wanted.into()) =>
        {
            advertise(wanted, from, mac, outbox);
        }
        NdiscRepr::NeighborAdvert { target_addr, .. } => return Some((target_addr.into(), mac)),
        _ => {}
    }
    None
}

/// Asks who has `wanted`, by the group of those whose addresses end alike (RFC 4291 §2.7.1).
pub(crate) fn ask(wanted: Ipv6Addr, outbox: &mut Outbox) {
    let [.., a, b, c] = wanted.octets();
    let low = |high, low| u16::from_be_bytes([high, low]);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, low(0xff, a), low(b, c));
    let lladdr = Some(EthernetAddress(MAC).into());
    let question = NdiscRepr::NeighborSolicit { target_addr: wanted, lladdr };
    let mac = EthernetAddress([0x33, 0x33, 0xff, a, b, c]);
    push(outbox, mac, (GATEWAY6, group), question, &[]);
}

fn advertise(ours: Ipv6Addr, to: Ipv6Addr, mac: EthernetAddress, outbox: &mut Outbox) {
    // Who has no address yet is told with all others (RFC 4861 §7.2.4).
    let (to, mac, solicited) = match to.is_unspecified() {
        true => (ALL_NODES, ALL_NODES_MAC, NdiscNeighborFlags::empty()),
        false => (to, mac, NdiscNeighborFlags::SOLICITED),
    };
    let answer = NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::OVERRIDE | solicited,
        target_addr: ours,
        lladdr: Some(EthernetAddress(MAC).into()),
    };
    push(outbox, mac, (ours, to), answer, &[]);
}

/// Tells the guest its prefix, its router and its name server.
fn advertise_router(outbox: &mut Outbox) {
    let prefix = NdiscPrefixInformation {
        prefix_len: 64,
        flags: NdiscPrefixInfoFlags::ON_LINK | NdiscPrefixInfoFlags::ADDRCONF,
        valid_lifetime: FOR_EVER,
        preferred_lifetime: FOR_EVER,
        prefix: PREFIX,
    };
    let router = NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: Duration::from_secs(LIFETIME.into()),
        reachable_time: Duration::ZERO,
        retrans_time: Duration::ZERO,
        lladdr: Some(EthernetAddress(MAC).into()),
        mtu: Some(MTU as u32),
        prefix_info: Some(prefix),
    };
    // Type, length in units of eight bytes, nothing, lifetime, address.
    let mut servers = [0; RDNSS_LEN];
    servers[..4].copy_from_slice(&[25, RDNSS_LEN as u8 / 8, 0, 0]);
    servers[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    servers[8..].copy_from_slice(&DNS6.octets());
    push(outbox, ALL_NODES_MAC, (LINK_LOCAL, ALL_NODES), router, &servers);
}

/// A message, and an option behind those that it has.
fn push(
    outbox: &mut Outbox,
    mac: EthernetAddress,
    (from, to): (Ipv6Addr, Ipv6Addr),
    message: NdiscRepr,
    option: &[u8],
) {
    let message = Icmpv6Repr::Ndisc(message);
    let own = message.buffer_len();
    let ends = (from.into(), to.into());
    outbox.push_ip(mac, ends, IpProtocol::Icmpv6, own + option.len(), |bytes| {
        let mut later = ChecksumCapabilities::default();
        later.icmpv6 = Checksum::None;
        message.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(&mut bytes[..own]), &later);
        bytes[own..].copy_from_slice(option);
        Icmpv6Packet::new_unchecked(bytes).fill_checksum(&from, &to);
    });
}
