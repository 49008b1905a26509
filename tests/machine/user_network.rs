//! A network without privileges: the guest reaches out, and who is asked in gets in.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use crate::stalled::waits_for_who_does_not_read;
use crate::traffic::Traffic;
use crate::under_traffic::reloads;
use crate::vm::{ARM64, ARMV7, DEADLINE, Vm, long, until};

/// Bytes that a TCP connection carries each way.
const LEN: usize = 4 << 20;

fn pattern() -> Vec<u8> {
    (0..LEN as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port that nobody has just now.
fn free_port() -> u16 {
    listen().1
}

/// The guest's address, by DHCP, and its gateway.
fn comes_up(vm: &mut Vm) {
    vm.run("ip link set eth0 up && udhcpc -q -n -i eth0 -s /etc/udhcpc/default.script");
    let address = vm.run("ip -4 address show dev eth0");
    assert!(address.contains("inet 10.0.2.15/24"), "{address}");
    assert_eq!(vm.run("cat /etc/resolv.conf"), "nameserver 10.0.2.3");
    vm.run("ping -q -c 3 10.0.2.2");
    // By the router's advertisement, once nobody else turns out to have it.
    vm.ask_until("ip -6 address show dev eth0 scope global | grep -v tentative", " fd00:10:0:2:");
    vm.run("ping -6 -q -c 1 fd00:10:0:2::2");
}

/// A file of the host's goes to the guest and back.
fn moves_files(vm: &mut Vm) {
    let ((out, out_port), (back, back_port)) = (listen(), listen());
    let sender = thread::spawn(move || out.accept().unwrap().0.write_all(&pattern()).unwrap());
    vm.run(&format!("nc 10.0.2.2 {out_port} </dev/null >/tmp/file"));
    sender.join().unwrap();
    assert_eq!(vm.run("wc -c </tmp/file"), LEN.to_string());
    let receiver = thread::spawn(move || {
        let mut came = vec![];
        back.accept().unwrap().0.read_to_end(&mut came).unwrap();
        came
    });
    vm.run(&format!("nc 10.0.2.2 {back_port} </tmp/file"));
    assert!(receiver.join().unwrap() == pattern(), "what went there came back");
    let refused = free_port();
    vm.run(&format!("! nc 10.0.2.2 {refused} </dev/null"));
}

/// A resolver of the host's, asked by the guest's over UDP.
fn resolves(vm: &mut Vm) {
    let resolver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = resolver.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((len, peer)) = resolver.recv_from(&mut query) {
            // The question again, and for addresses of IPv4 an answer (RFC 1035 §4.1).
            let question = &query[12..len];
            let is_a = question[question.len() - 4..] == [0, 1, 0, 1];
            let counts = [0, 1, 0, u8::from(is_a), 0, 0, 0, 0];
            let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7];
            let record = if is_a { &record[..] } else { &[] };
            let answer = [&query[..2], &[0x81, 0x80], &counts, question, record].concat();
            let _ = resolver.send_to(&answer, peer);
        }
    });
    let said = vm.run(&format!("nslookup host.test 10.0.2.2:{port}"));
    assert!(said.contains("192.0.2.7"), "{said}");
}

/// A server of the guest's answers at the host's port.
fn lets_in(vm: &mut Vm, port: u16) {
    vm.run("{ (echo from the guest | nc -l -p 8000 >/tmp/heard) & }");
    vm.ask_until("netstat -ltn", ":8000");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"from the host\n").unwrap();
    let mut line = [0; 15];
    stream.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"from the guest\n");
    drop(stream);
    vm.ask_until("cat /tmp/heard", "from the host");
}

/// A server that answers with what it hears, as soon as `together` connections are there; `count` in all.
fn echo(address: IpAddr, together: usize, count: usize) -> (u16, thread::JoinHandle<()>) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        for _ in 0..count / together {
            let streams: Vec<_> = (0..together).map(|_| listener.accept().unwrap().0).collect();
            let echo = |stream: TcpStream| {
                thread::spawn(move || std::io::copy(&mut &stream, &mut &stream).unwrap())
            };
            let echoes: Vec<_> = streams.into_iter().map(echo).collect();
            echoes.into_iter().for_each(|echo| assert!(echo.join().unwrap() > 0));
        }
    });
    (port, server)
}

/// Connections that come and go one after the other, and many at once; in the end there are no more sockets
/// than before, and no more memory is in use.
fn leaves_nothing_behind(vm: &mut Vm) {
    let (short, at_once) = if long() { (1000, 64) } else { (50, 8) };
    let before = (sockets(vm), memory(vm));
    comes_and_goes(vm, short);
    vm.run("head -c 262144 /tmp/file >/tmp/part");
    for (address, gateway) in [
        (IpAddr::from(Ipv4Addr::LOCALHOST), "10.0.2.2"),
        (Ipv6Addr::LOCALHOST.into(), "fd00:10:0:2::2"),
    ] {
        let (port, server) = echo(address, at_once, at_once);
        let each = format!("nc {gateway} {port} </tmp/part | cmp - /tmp/part && echo same");
        let said = vm.run(&format!("(for i in $(seq {at_once}); do ({each}) & done; wait)"));
        assert_eq!(said.matches("same").count(), at_once, "{said}");
        server.join().unwrap();
    }
    until("no flow is left", || sockets(vm) <= before.0);
    let more = memory(vm).saturating_sub(before.1);
    assert!(more < 8 << 10, "{more} KiB more than before");
}

/// So many connections, each of which says which it is and hears that back.
fn comes_and_goes(vm: &mut Vm, count: usize) {
    let (port, server) = echo(Ipv4Addr::LOCALHOST.into(), 1, count);
    // As many at a time as are done before the deadline.
    for first in (1..=count).step_by(50) {
        let each = format!("echo $i | nc 10.0.2.2 {port}");
        let said = vm.run(&format!("for i in $(seq {first} {}); do {each}; done", first + 49));
        let heard = said.lines().map(|line| line.trim().parse::<usize>().unwrap());
        assert!(heard.eq(first..first + 50), "{said}");
    }
    server.join().unwrap();
}

/// The VMM's sockets.
fn sockets(vm: &Vm) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", vm.pid())).unwrap();
    let is_socket = |path: std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|file| file.to_string_lossy().starts_with("socket:"))
    };
    files.filter(|file| is_socket(file.as_ref().unwrap().path())).count()
}

/// KiB of memory that the VMM has, its guest's among them, which is as much all the time.
fn memory(vm: &Vm) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", vm.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn all(arch: &str) {
    let port = free_port();
    let options = format!("-n mode=user,hostfwd=tcp:127.0.0.1:{port}-:8000");
    let mut vm = Vm::boot(arch, &options);
    comes_up(&mut vm);
    moves_files(&mut vm);
    resolves(&mut vm);
    lets_in(&mut vm, port);
    leaves_nothing_behind(&mut vm);
    waits_for_who_does_not_read(&mut vm, "127.0.0.1", "10.0.2.2");
    let traffic = Traffic::start(&mut vm, "127.0.0.1", "10.0.2.2");
    reloads(&mut vm, &traffic, "ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up");
    traffic.end(&mut vm);
    vm.power_off();
}

#[test]
fn an_armv7_guest_reaches_out_and_is_reached_at_forwarded_ports_without_a_tap() {
    all(ARMV7);
}

#[test]
fn an_arm64_guest_reaches_out_and_is_reached_at_forwarded_ports_without_a_tap() {
    all(ARM64);
}
