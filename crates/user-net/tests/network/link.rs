//! What a guest learns of its network: addresses, cards, name servers.

use cubie_user_net::addresses::{DNS, DNS6, GATEWAY, GATEWAY6, GUEST, LINK_LOCAL, MAC, PREFIX};
use cubie_user_net::{Config, Gateway};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{dhcpv4, icmp};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress,
    EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress,
    IpCidr, Ipv4Packet, Ipv6Packet, UdpPacket,
};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use crate::raw::{self, frames};
use crate::stack::{self, Stack};

#[test]
fn a_guest_gets_its_address_its_router_and_its_name_server_by_dhcp() {
    let mut stack = Stack::bare(&Config::default());
    let client = stack.sockets.add(dhcpv4::Socket::new());
    let lease = stack.until(|stack| match stack.sockets.get_mut::<dhcpv4::Socket>(client).poll() {
        Some(dhcpv4::Event::Configured(config)) => Some((
            config.address,
            config.router,
            config.dns_servers.to_vec(),
            config.server.identifier,
        )),
        _ => None,
    });
    let (address, router, servers, server) = lease;
    assert_eq!(IpCidr::Ipv4(address), IpCidr::new(GUEST.into(), 24));
    assert_eq!((router, server), (Some(GATEWAY), GATEWAY));
    assert_eq!(servers, [DNS]);
}

#[test]
fn a_guest_makes_its_ipv6_address_of_the_advertised_prefix() {
    let mut stack = Stack::bare(&Config::default());
    let address = stack.until(|stack| {
        // Its stack takes addresses over at the beginning of a turn.
        stack.poll();
        let own = stack.interface.ip_addrs().iter();
        let mut inside = own.filter_map(|cidr| match cidr.address() {
            IpAddress::Ipv6(address) if address.segments()[..4] == PREFIX.segments()[..4] => {
                Some(address)
            }
            _ => None,
        });
        inside.next()
    });
    assert_ne!(address, GATEWAY6);
    let router = stack.interface.routes().get_default_ipv6_route().unwrap();
    assert_eq!(router.via_router, IpAddress::Ipv6(LINK_LOCAL));
}

#[test]
fn a_router_names_its_ipv6_name_server() {
    let mut gateway = Gateway::new(&Config::default(), Instant::now()).unwrap();
    let all_routers = "ff02::2".parse().unwrap();
    let solicitation = smoltcp::wire::NdiscRepr::RouterSolicit { lladdr: None };
    let message = Icmpv6Repr::Ndisc(solicitation);
    raw::icmp_v6(&mut gateway, ("fe80::15".parse().unwrap(), all_routers), &message, 255);
    let [answer] = &frames(&mut gateway)[..] else { panic!("one answer") };
    let packet = Ipv6Packet::new_checked(&answer[14..]).unwrap();
    let message = Icmpv6Packet::new_checked(packet.payload()).unwrap();
    assert!(message.verify_checksum(&packet.src_addr(), &packet.dst_addr()));
    // RFC 8106 §5.1: type 25, three units of eight bytes, and the address at the end.
    let option = &packet.payload()[packet.payload().len() - 24..];
    assert_eq!(option[..2], [25, 3]);
    assert_eq!(option[8..], DNS6.octets());
    // What a router has passed on is not believed.
    raw::icmp_v6(
        &mut gateway,
        ("fe80::15".parse().unwrap(), all_routers),
        &Icmpv6Repr::Ndisc(solicitation),
        254,
    );
    assert!(frames(&mut gateway).is_empty());
}

/// A DHCP message of the guest's, and the server's answer.
fn ask(gateway: &mut Gateway, message: DhcpRepr) -> Option<(Ipv4Addr, Vec<u8>)> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
    let ends = (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into());
    raw::udp(gateway, ends, (68, 67), &bytes);
    let answer = frames(gateway).pop()?;
    let packet = Ipv4Packet::new_checked(&answer[14..]).unwrap();
    let datagram = UdpPacket::new_checked(packet.payload()).unwrap();
    Some((packet.dst_addr(), datagram.payload().to_vec()))
}

fn message(message_type: DhcpMessageType) -> DhcpRepr<'static> {
    DhcpRepr {
        message_type,
        transaction_id: 77,
        secs: 0,
        client_hardware_address: EthernetAddress(stack::MAC),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: None,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    }
}

#[test]
fn a_client_that_wants_another_address_is_refused_and_one_of_another_server_not_answered() {
    let mut gateway = Gateway::new(&Config::default(), Instant::now()).unwrap();
    let mut kind = |asked| {
        let (_, bytes) = ask(&mut gateway, asked)?;
        let packet = DhcpPacket::new_checked(&bytes[..]).unwrap();
        let answer = DhcpRepr::parse(&packet).unwrap();
        assert_eq!(answer.transaction_id, 77);
        Some((answer.message_type, answer.your_ip))
    };
    let request = message(DhcpMessageType::Request);
    let none = Ipv4Addr::UNSPECIFIED;
    let other = Some(Ipv4Addr::new(192, 168, 1, 9));
    let renewed = DhcpRepr { client_ip: GUEST, ..request.clone() };
    assert_eq!(kind(renewed), Some((DhcpMessageType::Ack, GUEST)));
    let moved = DhcpRepr { requested_ip: other, ..request.clone() };
    assert_eq!(kind(moved), Some((DhcpMessageType::Nak, none)));
    let stranger = DhcpRepr { server_identifier: other, requested_ip: Some(GUEST), ..request };
    assert_eq!(kind(stranger), None);
    assert_eq!(kind(message(DhcpMessageType::Inform)), Some((DhcpMessageType::Ack, none)));
    assert_eq!(kind(message(DhcpMessageType::Release)), None);
}

#[test]
fn only_the_gateways_own_addresses_have_its_card() {
    let mut gateway = Gateway::new(&Config::default(), Instant::now()).unwrap();
    let mut has = |wanted: Ipv4Addr| {
        let question = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(stack::MAC),
            source_protocol_addr: GUEST,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: wanted,
        };
        let mut bytes = vec![0; question.buffer_len()];
        question.emit(&mut ArpPacket::new_unchecked(&mut bytes[..]));
        raw::send(&mut gateway, EthernetAddress::BROADCAST, EthernetProtocol::Arp, &bytes);
        frames(&mut gateway).pop().map(|frame| EthernetFrame::new_unchecked(frame).src_addr())
    };
    let ours = Some(EthernetAddress(MAC));
    assert_eq!((has(GATEWAY), has(DNS)), (ours, ours));
    // A guest that looks whether its address is free must find it so.
    assert_eq!((has(GUEST), has(Ipv4Addr::new(10, 0, 2, 77))), (None, None));
}

/// Pings `to` until an answer comes; what came.
pub(crate) fn ping(to: IpAddr, data: &[u8]) -> Vec<u8> {
    let mut stack = Stack::new(&Config::default());
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
    let mut socket = icmp::Socket::new(buffer(), buffer());
    socket.bind(icmp::Endpoint::Ident(0x1234)).unwrap();
    let all = ChecksumCapabilities::default();
    let (ident, seq_no) = (0x1234, 9);
    match to {
        IpAddr::V4(_) => {
            let echo = Icmpv4Repr::EchoRequest { ident, seq_no, data };
            let room = socket.send(echo.buffer_len(), to.into()).unwrap();
            echo.emit(&mut Icmpv4Packet::new_unchecked(room), &all);
        }
        IpAddr::V6(to) => {
            let echo = Icmpv6Repr::EchoRequest { ident, seq_no, data };
            let room = socket.send(echo.buffer_len(), to.into()).unwrap();
            echo.emit(&stack::guest6(), &to, &mut Icmpv6Packet::new_unchecked(room), &all);
        }
    }
    let handle = stack.sockets.add(socket);
    stack.until(|stack| {
        let socket = stack.sockets.get_mut::<icmp::Socket>(handle);
        let (bytes, from) = socket.recv().ok()?;
        assert_eq!(from, to.into());
        Some(bytes.to_vec())
    })
}

#[test]
fn the_gateway_answers_pings() {
    let data = [7; 1000];
    for to in [GATEWAY.into(), DNS.into(), GATEWAY6.into(), DNS6.into()] {
        let answer = ping(to, &data);
        let kind = if to.is_ipv4() { 0 } else { 129 };
        assert_eq!((answer[0], &answer[4..8]), (kind, &[0x12, 0x34, 0, 9][..]));
        assert_eq!(answer[8..], data);
    }
}
