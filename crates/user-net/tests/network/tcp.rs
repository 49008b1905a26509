//! Connections of the guest's.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use cubie_user_net::Config;
use rustix::net::sockopt;
use smoltcp::socket::tcp::State;

use crate::cable::Cable;
use crate::stack::{DEADLINE, Stack, Thread, host, spawn};

const LEN: usize = 4 << 20;
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn pattern(seed: u32) -> Vec<u8> {
    (0..LEN as u32).map(|i| ((i ^ seed).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A server on the host that accepts `count` connections, each on a thread of its own.
fn server(
    address: IpAddr,
    count: usize,
    serve: impl Fn(TcpStream) + Clone + Send + 'static,
) -> (SocketAddr, Thread) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let end = listener.local_addr().unwrap();
    let thread = spawn(move || {
        let served: Vec<_> = (0..count)
            .map(|_| {
                let stream = listener.accept().unwrap().0;
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream.set_write_timeout(Some(DEADLINE)).unwrap();
                let serve = serve.clone();
                thread::spawn(move || serve(stream))
            })
            .collect();
        served.into_iter().for_each(|served| served.join().unwrap());
    });
    (end, thread)
}

/// Returns what it is sent, as it comes.
fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 16 << 10];
    while let Ok(len @ 1..) = stream.read(&mut bytes) {
        stream.write_all(&bytes[..len]).unwrap();
    }
}

/// Four MiB from each end to the other.
pub(crate) fn both_ways_at_once<C: Cable>(stack: &mut Stack<C>, address: IpAddr) {
    let (end, server) = server(address, 1, |stream| {
        let mut sending = stream.try_clone().unwrap();
        let sender = thread::spawn(move || {
            sending.write_all(&pattern(1)).unwrap();
            sending.shutdown(Shutdown::Write).unwrap();
        });
        let mut came = vec![];
        (&stream).read_to_end(&mut came).unwrap();
        assert!(came == pattern(2), "what the guest sent came");
        sender.join().unwrap();
    });
    let socket = stack.connect(host(end));
    assert!(stack.is_open(socket));
    let (out, mut sent, mut came) = (pattern(2), 0, vec![]);
    stack.until(|stack| {
        let socket = stack.tcp(socket);
        while socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), came.extend_from_slice(bytes))).unwrap();
        }
        if socket.may_send() {
            sent += socket.send_slice(&out[sent..]).unwrap();
            if sent == LEN {
                socket.close();
            }
        }
        (sent == LEN && came.len() >= LEN).then_some(())
    });
    assert!(came == pattern(1), "what the host sent came");
    stack.join(server);
}

#[test]
fn four_mib_go_each_way_at_once() {
    both_ways_at_once(&mut Stack::new(&Config::default()), V4);
}

#[test]
fn four_mib_go_each_way_at_once_over_ipv6() {
    both_ways_at_once(&mut Stack::new(&Config::default()), V6);
}

#[test]
fn two_hundred_connections_come_and_go() {
    let (end, server) = server(V4, 200, echo);
    let mut stack = Stack::new(&Config::default());
    for n in 0..200u32 {
        let socket = stack.connect(host(end));
        assert!(stack.is_open(socket));
        stack.write(socket, &n.to_le_bytes());
        stack.tcp(socket).close();
        assert_eq!(stack.read_to_end(socket), n.to_le_bytes());
        stack.sockets.remove(socket);
    }
    stack.join(server);
}

#[test]
fn sixteen_connections_share_the_cable() {
    let (end, server) = server(V4, 16, echo);
    let mut stack = Stack::new(&Config::default());
    let part = LEN / 16;
    let data = pattern(3);
    let handles: Vec<_> = (0..16).map(|_| stack.connect(host(end))).collect();
    let mut progress = vec![(0, vec![]); 16];
    stack.until(|stack| {
        for ((handle, data), (sent, came)) in
            handles.iter().zip(data.chunks(part)).zip(&mut progress)
        {
            let socket = stack.tcp(*handle);
            if socket.may_send() {
                *sent += socket.send_slice(&data[*sent..]).unwrap();
                if *sent == part {
                    socket.close();
                }
            }
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), came.extend_from_slice(bytes))).unwrap();
            }
        }
        progress.iter().all(|(_, came)| came.len() == part).then_some(())
    });
    for ((_, came), data) in progress.iter().zip(data.chunks(part)) {
        assert!(came == data);
    }
    stack.join(server);
}

#[test]
fn a_port_that_nobody_has_refuses() {
    let unused = TcpListener::bind((V4, 0)).unwrap().local_addr().unwrap();
    let mut stack = Stack::new(&Config::default());
    let socket = stack.connect(host(unused));
    assert!(!stack.is_open(socket));
}

#[test]
fn what_is_switched_off_refuses() {
    let listener = TcpListener::bind((V4, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let end = host(listener.local_addr().unwrap());
    let off = Config { host_loopback: false, ..Config::default() };
    let restricted = Config { restrict: true, ..Config::default() };
    for config in [off, restricted] {
        let mut stack = Stack::new(&config);
        let socket = stack.connect(end);
        assert!(!stack.is_open(socket));
    }
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nobody came");
}

#[test]
fn a_guest_that_has_said_all_still_hears() {
    let (end, server) = server(V4, 1, |mut stream| {
        let mut came = vec![];
        stream.read_to_end(&mut came).unwrap();
        assert_eq!(came, b"question");
        stream.write_all(b"answer").unwrap();
    });
    let mut stack = Stack::new(&Config::default());
    let socket = stack.connect(host(end));
    assert!(stack.is_open(socket));
    stack.write(socket, b"question");
    stack.tcp(socket).close();
    assert_eq!(stack.read_to_end(socket), b"answer");
    stack.join(server);
}

#[test]
fn a_host_that_has_said_all_still_hears() {
    let (end, server) = server(V4, 1, |mut stream| {
        stream.write_all(b"banner").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut came = vec![];
        stream.read_to_end(&mut came).unwrap();
        assert_eq!(came, b"reply");
    });
    let mut stack = Stack::new(&Config::default());
    let socket = stack.connect(host(end));
    assert!(stack.is_open(socket));
    assert_eq!(stack.read_to_end(socket), b"banner");
    stack.write(socket, b"reply");
    stack.tcp(socket).close();
    stack.join(server);
}

#[test]
fn a_reset_of_the_guests_reaches_the_host() {
    let (end, server) = server(V4, 1, |mut stream| {
        let error = stream.read_to_end(&mut vec![]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
    let mut stack = Stack::new(&Config::default());
    let socket = stack.connect(host(end));
    assert!(stack.is_open(socket));
    stack.tcp(socket).abort();
    stack.join(server);
}

#[test]
fn a_reset_of_the_hosts_reaches_the_guest() {
    let (end, server) = server(V4, 1, |mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    });
    let mut stack = Stack::new(&Config::default());
    let socket = stack.connect(host(end));
    assert!(stack.is_open(socket));
    stack.write(socket, b"x");
    // From an open connection: without an end of the stream.
    stack.until(|stack| (stack.tcp(socket).state() == State::Closed).then_some(()));
    stack.join(server);
}

#[test]
fn a_host_that_does_not_read_makes_the_guest_wait_and_nothing_is_lost() {
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let mut stack = Stack::new(&Config::default());
    let socket = stack.connect(host(listener.local_addr().unwrap()));
    assert!(stack.is_open(socket));
    let mut stream = listener.accept().unwrap().0;
    let (data, mut sent) = (pattern(4).repeat(4), 0);
    // Until nothing moves any more: buffers of this crate and of the kernel are full.
    stack.settle(|stack| sent += stack.tcp(socket).send_slice(&data[sent..]).unwrap());
    assert!(sent < data.len(), "{sent} bytes have gone somewhere");
    let expected = data.clone();
    let reader = spawn(move || {
        let mut came = vec![];
        stream.read_to_end(&mut came).unwrap();
        assert!(came == expected);
    });
    stack.write(socket, &data[sent..]);
    stack.tcp(socket).close();
    stack.join(reader);
}
