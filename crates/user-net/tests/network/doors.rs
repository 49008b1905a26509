//! Ports of the host's that lead to the guest.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use cubie_user_net::addresses::GATEWAY;
use cubie_user_net::{Config, Gateway, UserNetError};
use smoltcp::wire::{ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol};

use crate::raw::frames;
use crate::stack::{DEADLINE, Stack, host, spawn};

fn with(forwards: &[&str]) -> Config {
    let forwards = forwards.iter().map(|forward| forward.parse().unwrap()).collect();
    // Who comes in needs no way out.
    Config { forwards, restrict: true, ..Config::default() }
}

/// The guest, and where its forwarded ports are on the host.
fn stack(forwards: &[&str]) -> (Stack, Vec<SocketAddr>) {
    let stack = Stack::new(&with(forwards));
    let ports = stack.cable.forwards().map(|forward| forward.host).collect();
    (stack, ports)
}

#[test]
fn a_connection_to_the_hosts_port_reaches_the_guest_over_each_family() {
    for forward in [
        "tcp:127.0.0.1:0-:22",
        "tcp:[::1]:0-:22",
        "tcp:127.0.0.1:0-[fd00:10:0:2::15]:22",
        "tcp:[::1]:0-[fd00:10:0:2::15]:22",
    ]
    .map(|text| text.replace("::15]", "::f]"))
    {
        let (mut stack, ports) = stack(&[&forward]);
        let server = stack.listen(22);
        let port = ports[0];
        let client = spawn(move || {
            let mut stream = TcpStream::connect(port).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(b"who is there").unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = vec![];
            stream.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"the guest");
        });
        assert!(stack.is_open(server), "{forward}");
        let remote: SocketAddr = stack.tcp(server).remote_endpoint().unwrap().into();
        assert!(remote.ip() == GATEWAY || remote.is_ipv6(), "{remote}");
        assert_eq!(stack.read_to_end(server), b"who is there");
        stack.write(server, b"the guest");
        stack.tcp(server).close();
        stack.join(client);
    }
}

#[test]
fn a_guest_that_does_not_listen_refuses() {
    let (mut stack, ports) = stack(&["tcp:127.0.0.1:0-:22"]);
    let client = spawn(move || {
        let mut stream = TcpStream::connect(ports[0]).unwrap();
        assert!(stream.read(&mut [0]).is_err(), "a reset, since nobody is there");
    });
    stack.join(client);
}

#[test]
fn datagrams_to_the_hosts_port_reach_the_guest_and_each_peer_gets_its_own_answer() {
    let (mut stack, ports) = stack(&["udp:127.0.0.1:0-:53"]);
    let server = stack.udp(53);
    let peers = [(); 3].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    for (number, peer) in (0u8..).zip(&peers) {
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        peer.send_to(&[number], ports[0]).unwrap();
    }
    let mut came: Vec<_> = (0..3).map(|_| stack.receive_from(server)).collect();
    came.reverse();
    for (data, from) in &came {
        assert_eq!(from.ip(), GATEWAY);
        stack.send_to(server, &[data[0] + 100], *from);
    }
    for (number, peer) in (0u8..).zip(&peers) {
        let mut answer = [0; 9];
        assert_eq!(peer.recv_from(&mut answer).unwrap(), (1, ports[0]));
        assert_eq!(answer[0], number + 100);
    }
}

#[test]
fn a_late_answer_does_not_reach_the_hosts_own_services() {
    let forwards = vec!["udp:127.0.0.1:0-:53".parse().unwrap()];
    let mut stack = Stack::new(&Config { forwards, ..Config::default() });
    let door = stack.cable.forwards().next().unwrap().host;
    let (service, other) = (stack.udp(53), stack.udp(4000));
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // The guest is known once it has sent something.
    stack.send_to(other, b"", (GATEWAY, 9).into());
    peer.send_to(b"question", door).unwrap();
    let (_, from) = stack.receive_from(service);
    assert!(from.port() >= 49_152);
    // Somebody else of the host's has a port that stood for a peer.
    let ports = 49_152..=u16::MAX;
    let bound = ports.map(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)));
    let own = bound.flatten().next().expect("a port of the host's is free");
    own.set_read_timeout(Some(DEADLINE)).unwrap();
    let own_end = host(own.local_addr().unwrap());
    stack.later = Duration::from_secs(61);
    stack.send_to(service, b"late", own_end);
    stack.send_to(other, b"meant for it", own_end);
    let mut came = [0; 20];
    stack.until_readable(&own);
    let (len, _) = own.recv_from(&mut came).unwrap();
    assert_eq!(&came[..len], b"meant for it");
}

#[test]
fn who_comes_before_the_guest_is_up_waits_at_the_door() {
    let mut gateway = Gateway::new(&with(&["tcp:127.0.0.1:0-:22"]), Instant::now()).unwrap();
    let port = gateway.forwards().next().unwrap().host;
    let client = TcpStream::connect(port).unwrap();
    // The guest is asked for, and nothing more.
    let [question] = &frames(&mut gateway)[..] else { panic!("one question") };
    let question = EthernetFrame::new_checked(&question[..]).unwrap();
    assert_eq!(question.ethertype(), EthernetProtocol::Arp);
    let packet = ArpPacket::new_checked(question.payload()).unwrap();
    let ArpRepr::EthernetIpv4 { target_protocol_addr, .. } = ArpRepr::parse(&packet).unwrap()
    else {
        panic!("a question for an address")
    };
    assert_eq!(target_protocol_addr, Ipv4Addr::new(10, 0, 2, 15));
    // Now it boots, and asks for the gateway as it sends its first packet.
    let mut stack = Stack::on(gateway);
    let server = stack.listen(22);
    let first = stack.udp(1);
    stack.send_to(first, b"", (GATEWAY, 9).into());
    assert!(stack.is_open(server));
    drop(client);
    assert_eq!(stack.read_to_end(server), b"");
}

#[test]
fn a_port_in_use_names_the_option() {
    let used = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!("tcp:{}-:22", used.local_addr().unwrap());
    let error = Gateway::new(&with(&[&text]), Instant::now()).err().unwrap();
    assert!(matches!(error, UserNetError::InUse(_)));
    let said = error.to_string();
    assert!(said.starts_with(&format!("hostfwd={text}").replace("-:", "-10.0.2.15:")), "{said}");
    assert!(said.contains("in use"), "{said}");
    let error = Gateway::new(&with(&["udp:192.0.2.1:9-:9"]), Instant::now()).err().unwrap();
    assert!(matches!(error, UserNetError::Listen { .. }), "{error}");
}
