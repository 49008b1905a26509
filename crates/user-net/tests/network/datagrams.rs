//! Datagrams of the guest's, name resolution, and pings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use cubie_user_net::addresses::{DNS, DNS6, GATEWAY, GUEST};
use cubie_user_net::{Config, Gateway};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr,
};

use crate::link::ping;
use crate::raw::{self, frames};
use crate::stack::{DEADLINE, Stack, host};

fn server(address: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

#[test]
fn datagrams_go_there_and_back_over_both_families() {
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
        let server = server(address);
        let end = server.local_addr().unwrap();
        let mut stack = Stack::new(&Config::default());
        let socket = stack.udp(4000);
        // Of all lengths that fit into one packet, none included.
        for len in [0, 1, 1400] {
            let data = vec![len as u8; len];
            stack.send_to(socket, &data, host(end));
            stack.until_readable(&server);
            let mut bytes = [0; 2000];
            let (count, peer) = server.recv_from(&mut bytes).unwrap();
            assert_eq!(bytes[..count], data);
            server.send_to(&[&data[..], b"!"].concat(), peer).unwrap();
            let answer = [&data[..], b"!"].concat();
            assert_eq!(stack.receive_from(socket), (answer, host(end)));
        }
    }
}

#[test]
fn nobody_but_the_other_end_reaches_the_guest() {
    let [server, stranger] = [(); 2].map(|()| server(Ipv4Addr::LOCALHOST.into()));
    let mut stack = Stack::new(&Config::default());
    let socket = stack.udp(4000);
    stack.send_to(socket, b"hello", host(server.local_addr().unwrap()));
    stack.until_readable(&server);
    let peer = server.recv_from(&mut [0; 9]).unwrap().1;
    stranger.send_to(b"from a stranger", peer).unwrap();
    server.send_to(b"from the server", peer).unwrap();
    assert_eq!(stack.receive_from(socket).0, b"from the server");
}

#[test]
fn queries_go_to_the_resolver_and_answers_come_from_the_name_server() {
    let resolver = server(Ipv4Addr::LOCALHOST.into());
    let resolvers = vec![resolver.local_addr().unwrap()];
    let mut stack = Stack::new(&Config { resolvers, host_loopback: false, ..Config::default() });
    let socket = stack.udp(5300);
    for server in [IpAddr::from(DNS), IpAddr::from(DNS6)] {
        let server = SocketAddr::new(server, 53);
        stack.send_to(socket, b"who is example.org", server);
        stack.until_readable(&resolver);
        let mut bytes = [0; 100];
        let (len, peer) = resolver.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"who is example.org");
        resolver.send_to(b"192.0.2.7", peer).unwrap();
        assert_eq!(stack.receive_from(socket), (b"192.0.2.7".to_vec(), server));
    }
}

#[test]
fn long_answers_of_the_resolver_come_over_tcp() {
    use std::io::{Read, Write};
    let resolver = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let resolvers = vec![resolver.local_addr().unwrap()];
    let mut stack = Stack::new(&Config { resolvers, ..Config::default() });
    let socket = stack.connect(SocketAddr::new(DNS.into(), 53));
    assert!(stack.is_open(socket));
    let mut stream = resolver.accept().unwrap().0;
    stack.write(socket, b"query");
    let mut query = [0; 5];
    stream.read_exact(&mut query).unwrap();
    stream.write_all(&query.repeat(1000)).unwrap();
    drop(stream);
    assert_eq!(stack.read_to_end(socket), b"query".repeat(1000));
}

/// The error of ICMP that comes back for a datagram to `to`, if one does.
fn error_for(gateway: &mut Gateway, to: SocketAddr) -> Option<(Icmpv4DstUnreachable, Ipv4Repr)> {
    let ends = (GUEST.into(), to.ip());
    let until = Instant::now() + DEADLINE;
    loop {
        raw::udp(gateway, ends, (4000, to.port()), b"hello");
        for frame in frames(gateway) {
            let packet = Ipv4Packet::new_checked(&frame[14..]).unwrap();
            assert_eq!((packet.next_header(), packet.dst_addr()), (IpProtocol::Icmp, GUEST));
            let message = Icmpv4Packet::new_checked(packet.payload()).unwrap();
            let all = ChecksumCapabilities::default();
            if let Ok(Icmpv4Repr::DstUnreachable { reason, header, data }) =
                Icmpv4Repr::parse(&message, &all)
            {
                let [a, b] = 4000u16.to_be_bytes();
                let [c, d] = to.port().to_be_bytes();
                assert_eq!(data[..4], [a, b, c, d]);
                return Some((reason, header));
            }
        }
        if Instant::now() > until {
            return None;
        }
    }
}

#[test]
fn a_guest_is_told_of_ports_that_nobody_has_and_of_ways_that_are_closed() {
    let unused = server(Ipv4Addr::LOCALHOST.into()).local_addr().unwrap();
    let mut gateway = Gateway::new(&Config::default(), Instant::now()).unwrap();
    let (reason, header) = error_for(&mut gateway, host(unused)).unwrap();
    assert_eq!(reason, Icmpv4DstUnreachable::PortUnreachable);
    assert_eq!((header.src_addr, header.dst_addr), (GUEST, GATEWAY));
    let config = Config { restrict: true, ..Config::default() };
    let mut gateway = Gateway::new(&config, Instant::now()).unwrap();
    let (reason, _) = error_for(&mut gateway, "192.0.2.1:9".parse().unwrap()).unwrap();
    assert_eq!(reason, Icmpv4DstUnreachable::CommProhibited);
}

#[test]
fn nothing_answers_what_is_for_many() {
    let mut gateway = Gateway::new(&Config::default(), Instant::now()).unwrap();
    for to in ["255.255.255.255", "224.0.0.251", "239.255.255.250"] {
        raw::udp(&mut gateway, (GUEST.into(), to.parse().unwrap()), (4000, 5353), b"?");
    }
    assert!(frames(&mut gateway).is_empty());
}

/// An address of this host's that is not its loopback's, if it has one: as good as another host.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().unwrap().ip();
    let may = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        Some(rustix::net::ipproto::ICMP),
    );
    let outside = !address.is_loopback() && !address.to_string().starts_with("10.0.2.");
    (outside && may.is_ok()).then_some(address)
}

#[test]
fn other_hosts_answer_pings_where_this_process_may_ping() {
    let Some(address) = own_address() else {
        return eprintln!("skipped: no address to ping, or net.ipv4.ping_group_range is closed");
    };
    let answer = ping(address, b"some data");
    assert_eq!((answer[0], &answer[4..8]), (0, &[0x12, 0x34, 0, 9][..]));
    assert_eq!(&answer[8..], b"some data");
}
