//! DHCP's server (RFC 2131): one address for one guest, and nothing to remember.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};

use crate::addresses::{DNS, GATEWAY, GUEST, NETMASK};
use crate::frames::Outbox;
use crate::table::Path;
use crate::udp;

/// The server's port; clients have the next one.
pub(crate) const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// Seconds.
const LEASE: u32 = 24 * 60 * 60;
/// Option 6, domain name servers (RFC 2132 §3.8).
const NAME_SERVERS: u8 = 6;
/// Bytes of an answer at least: some clients take no less than BOOTP had (RFC 1542 §2.1).
const SHORTEST: usize = 300;

/// Answers a client's message.
pub(crate) fn input(message: &[u8], mac: EthernetAddress, outbox: &mut Outbox) {
    let Ok(packet) = DhcpPacket::new_checked(message) else { return };
    let Ok(asked) = DhcpRepr::parse(&packet) else { return };
    let Some(kind) = answer_to(&asked) else { return };
    let granted = kind != DhcpMessageType::Nak;
    // INFORM asks for everything but an address (§4.3.5).
    let leased = granted && asked.message_type != DhcpMessageType::Inform;
    let servers = DNS.octets();
    let options = [DhcpOption { kind: NAME_SERVERS, data: &servers }];
    let answer = DhcpRepr {
        message_type: kind,
        your_ip: if leased { GUEST } else { Ipv4Addr::UNSPECIFIED },
        server_ip: if granted { GATEWAY } else { Ipv4Addr::UNSPECIFIED },
        router: granted.then_some(GATEWAY),
        subnet_mask: granted.then_some(NETMASK),
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(GATEWAY),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: leased.then_some(LEASE),
        renew_duration: None,
        rebind_duration: None,
        additional_options: if granted { &options } else { &[] },
        ..asked
    };
    // To an address that the client has, or to whoever has none yet (§4.1).
    let to = match asked.client_ip {
        client if client == GUEST && granted => client,
        _ => Ipv4Addr::BROADCAST,
    };
    let ends = Path {
        guest: SocketAddr::new(IpAddr::V4(to), CLIENT_PORT),
        remote: SocketAddr::new(IpAddr::V4(GATEWAY), SERVER_PORT),
    };
    let mac = if asked.broadcast { EthernetAddress::BROADCAST } else { mac };
    udp::push(outbox, mac, ends, answer.buffer_len().max(SHORTEST), |bytes| {
        // The length is its own.
        let _ = answer.emit(&mut DhcpPacket::new_unchecked(bytes));
    });
}

/// The kind of answer that a message gets (§4.3).
fn answer_to(asked: &DhcpRepr) -> Option<DhcpMessageType> {
    match asked.message_type {
        DhcpMessageType::Discover => Some(DhcpMessageType::Offer),
        DhcpMessageType::Inform => Some(DhcpMessageType::Ack),
        DhcpMessageType::Request => {
            let ours = asked.server_identifier.is_none_or(|server| server == GATEWAY);
            let wanted = asked.requested_ip.unwrap_or(asked.client_ip);
            let kind = if wanted == GUEST { DhcpMessageType::Ack } else { DhcpMessageType::Nak };
            ours.then_some(kind)
        }
        _ => None,
    }
}
