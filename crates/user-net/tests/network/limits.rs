//! Bounds in number and in time, which is an argument.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use cubie_user_net::{Config, Gateway, HostSockets, Limits, Outside};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use crate::stack::{DEADLINE, Stack, host};

fn with(change: impl FnOnce(&mut Limits)) -> Config {
    let mut limits = Limits::default();
    change(&mut limits);
    Config { limits, ..Config::default() }
}

fn connect(stack: &mut Stack, listener: &TcpListener) -> (SocketHandle, TcpStream) {
    let socket = stack.connect(host(listener.local_addr().unwrap()));
    assert!(stack.is_open(socket));
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    (socket, stream)
}

#[test]
fn the_connection_that_was_silent_for_the_longest_time_gives_way() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut stack = Stack::new(&with(|limits| limits.tcp_flows = 2));
    let (first, mut first_host) = connect(&mut stack, &listener);
    let (second, mut second_host) = connect(&mut stack, &listener);
    stack.write(first, b"still here");
    let mut said = [0; 10];
    first_host.read_exact(&mut said).unwrap();
    let (_third, _third_host) = connect(&mut stack, &listener);
    let gone = second_host.read(&mut said).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::ConnectionReset);
    stack.until(|stack| (stack.tcp(second).state() == State::Closed).then_some(()));
    first_host.write_all(b"so am I").unwrap();
    stack.until(|stack| (stack.tcp(first).recv_queue() == 7).then_some(()));
}

#[test]
fn a_connection_that_is_idle_for_too_long_is_reset_on_both_sides() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut stack = Stack::new(&with(|limits| limits.tcp_idle = Duration::from_secs(100)));
    let (idle, mut idle_host) = connect(&mut stack, &listener);
    let (busy, mut busy_host) = connect(&mut stack, &listener);
    stack.later = Duration::from_secs(90);
    stack.write(busy, b"x");
    stack.until_readable(&busy_host);
    busy_host.read_exact(&mut [0]).unwrap();
    stack.later = Duration::from_secs(101);
    stack.until(|stack| (stack.tcp(idle).state() == State::Closed).then_some(()));
    let gone = idle_host.read(&mut [0]).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::ConnectionReset);
    assert_eq!(stack.tcp(busy).state(), State::Established);
}

/// Each hears the other.
fn is_alive(stack: &mut Stack, socket: SocketHandle, stream: &mut TcpStream) {
    stack.write(socket, b"still here");
    stack.until_readable(stream);
    stream.read_exact(&mut [0; 10]).unwrap();
    stream.write_all(b"so am I").unwrap();
    stack.until(|stack| stack.tcp(socket).recv(|bytes| (bytes.len(), bytes.len())).ok());
}

#[test]
fn who_comes_in_takes_no_place_of_the_guests_own_connections() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let forwards = vec!["tcp:127.0.0.1:0-:22".parse().unwrap()];
    let mut stack = Stack::new(&Config {
        forwards,
        ..with(|limits| (limits.tcp_flows, limits.tcp_inward) = (2, 1))
    });
    let door = stack.cable.forwards().next().unwrap().host;
    let servers = [(); 3].map(|()| stack.listen(22));
    let (own, mut own_host) = connect(&mut stack, &listener);
    // Of those that come in, one gives way to the other, though the guest's own was silent for longer.
    let mut first = TcpStream::connect(door).unwrap();
    let open = |stack: &mut Stack| servers.iter().copied().find(|one| stack.tcp(*one).may_send());
    let gone = stack.until(open);
    let mut second = TcpStream::connect(door).unwrap();
    stack.until_readable(&first);
    assert_eq!(first.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    is_alive(&mut stack, own, &mut own_host);
    stack.until(|stack| (stack.tcp(gone).state() == State::Closed).then_some(()));
    let inside = stack.until(open);
    is_alive(&mut stack, inside, &mut second);
    // Nor do they give way to the guest's own: of those, the oldest one does.
    let (other, mut other_host) = connect(&mut stack, &listener);
    let (third, mut third_host) = connect(&mut stack, &listener);
    assert_eq!(own_host.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    is_alive(&mut stack, other, &mut other_host);
    is_alive(&mut stack, third, &mut third_host);
    is_alive(&mut stack, inside, &mut second);
}

#[test]
fn who_comes_in_takes_no_place_of_the_guests_own_datagrams() {
    let [server, stranger, last] =
        [(); 3].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let strangers = [&stranger, &last];
    let forwards = vec!["udp:127.0.0.1:0-:53".parse().unwrap()];
    let mut stack = Stack::new(&Config {
        forwards,
        ..with(|limits| (limits.udp_flows, limits.udp_inward) = (1, 1))
    });
    let door = stack.cable.forwards().next().unwrap().host;
    let (own, service) = (stack.udp(4000), stack.udp(53));
    stack.send_to(own, b"question", host(server.local_addr().unwrap()));
    stack.until_readable(&server);
    let peer = server.recv_from(&mut [0; 9]).unwrap().1;
    let mut who = vec![];
    for stranger in strangers {
        stranger.send_to(b"hello", door).unwrap();
        who.push(stack.receive_from(service).1);
    }
    server.send_to(b"answer", peer).unwrap();
    assert_eq!(stack.receive_from(own).0, b"answer");
    // Nor do they give way to the guest's own.
    let another = stack.udp(4001);
    stack.send_to(another, b"question", host(server.local_addr().unwrap()));
    stack.until_readable(&server);
    assert_ne!(server.recv_from(&mut [0; 9]).unwrap().1, peer, "the other one had to go");
    stack.send_to(service, b"answer", who[1]);
    stack.until_readable(&last);
    assert_eq!(last.recv(&mut [0; 9]).unwrap(), 6);
}

/// What it makes after the first one cannot be waited for.
#[derive(Debug, Default)]
struct Once(bool);

impl Once {
    fn make(
        &mut self,
        make: impl FnOnce(&mut HostSockets) -> io::Result<OwnedFd>,
    ) -> io::Result<OwnedFd> {
        match std::mem::replace(&mut self.0, true) {
            false => make(&mut HostSockets),
            true => Ok(File::open("/dev/null")?.into()),
        }
    }
}

impl Outside for Once {
    fn tcp(&mut self, to: SocketAddr) -> io::Result<OwnedFd> {
        self.make(|host| host.tcp(to))
    }

    fn udp(&mut self, to: SocketAddr) -> io::Result<OwnedFd> {
        self.make(|host| host.udp(to))
    }

    fn ping(&mut self, to: SocketAddr) -> io::Result<OwnedFd> {
        self.make(|host| host.ping(to))
    }
}

#[test]
fn who_does_not_come_about_takes_nobodys_place() {
    let stack = || {
        let config = with(|limits| (limits.tcp_flows, limits.udp_flows) = (1, 1));
        Stack::on(Gateway::reaching(Box::<Once>::default(), &config, Instant::now()).unwrap())
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut guest = stack();
    let (first, mut first_host) = connect(&mut guest, &listener);
    let second = guest.connect(host(listener.local_addr().unwrap()));
    guest.until(|guest| (guest.tcp(second).state() == State::Closed).then_some(()));
    is_alive(&mut guest, first, &mut first_host);

    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let end = host(server.local_addr().unwrap());
    let mut guest = stack();
    let [first, second] = [1000, 1001].map(|port| guest.udp(port));
    guest.send_to(first, b"question", end);
    guest.until_readable(&server);
    let peer = server.recv_from(&mut [0; 9]).unwrap().1;
    guest.send_to(second, b"question", end);
    server.send_to(b"answer", peer).unwrap();
    assert_eq!(guest.receive_from(first).0, b"answer");
}

#[test]
fn datagram_flows_are_bounded_in_number_and_time() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let end = host(server.local_addr().unwrap());
    let mut stack = Stack::new(&with(|limits| limits.udp_flows = 2));
    let sockets = [1000, 1001, 1002].map(|port| stack.udp(port));
    // What a datagram seems to come from changes with its flow.
    let sender = |stack: &mut Stack, n: usize| {
        stack.send_to(sockets[n], b"x", end);
        stack.until_readable(&server);
        server.recv_from(&mut [0; 9]).unwrap().1
    };
    let first = sender(&mut stack, 0);
    let second = sender(&mut stack, 1);
    assert_eq!(sender(&mut stack, 0), first);
    sender(&mut stack, 2);
    assert_eq!(sender(&mut stack, 0), first, "the other one had to go");
    // Its socket is closed, so that the host's side is told.
    server.connect(second).unwrap();
    server.send(b"late").unwrap();
    let gone = server.recv(&mut [0; 9]).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::ConnectionRefused);
    stack.later = Duration::from_secs(61);
    stack.settle(|_| {});
    server.connect(first).unwrap();
    server.send(b"late").unwrap();
    assert_eq!(server.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_flood_of_datagrams_from_outside_leaves_room_for_the_guests_own_connection() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let forwards = ["udp:127.0.0.1:0-:50", "udp:127.0.0.1:0-:51", "udp:127.0.0.1:0-:52"];
    let forwards = forwards.map(|forward| forward.parse().unwrap()).to_vec();
    let mut stack = Stack::new(&Config { forwards, ..Config::default() });
    let doors: Vec<_> = stack.cable.forwards().map(|forward| forward.host).collect();
    let (own, mut own_host) = connect(&mut stack, &listener);
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    own_host.write_all(&[7; 1000]).unwrap();
    for door in doors.iter().flat_map(|door| [door; 64]) {
        stranger.send_to(&[0; 100], door).unwrap();
    }
    // As many as can wait for the guest's buffers at a time.
    let now = Instant::now();
    let frames: Vec<_> = (0..128).map_while(|_| stack.cable.output(now, <[u8]>::to_vec)).collect();
    let carries = |frame: &&Vec<u8>| frame[23] == 6 && frame.len() > 1000;
    assert_eq!(frames.iter().filter(carries).count(), 1, "of {} frames", frames.len());
    assert_eq!(stack.tcp(own).state(), State::Established);
}
