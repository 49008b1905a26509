//! virtio-net over a tap.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use crate::traffic::Traffic;
use crate::under_traffic::reloads;
use crate::vm::{ARM64, ARMV7, DEADLINE, Vm, host, long};

/// The host on the tap.
pub(crate) const HOST: &str = "10.77.0.1";
/// Bytes that a TCP connection carries each way.
const LEN: usize = 4 << 20;
const LONG: usize = 1 << 30;
/// The guest's way to it.
pub(crate) const UP: &str = "ip addr add 10.77.0.2/24 dev eth0 && ip link set eth0 up";
/// Segments with a wrong checksum that the guest's TCP has seen.
pub(crate) const CHECKSUM_ERRORS: &str = "awk '/^Tcp:/ { n = $NF } END { print n }' /proc/net/snmp";
/// Bytes that are made at once.
const PIECE: usize = 1 << 16;

pub(crate) fn reaches_its_host(arch: &str, options: &str, tap: &str) {
    reaches_its_host_with(arch, options, tap, "");
}

/// `more` is said of the card.
pub(crate) fn reaches_its_host_with(arch: &str, options: &str, tap: &str, more: &str) {
    let mut vm = boot(arch, options, tap, more);
    assert_eq!(vm.run("cat /sys/class/net/eth0/address"), "02:15:15:15:15:15");
    vm.run("ping -q -c 3 10.77.0.1");
    host("ping -q -c 3 10.77.0.2");
    exchange(&mut vm, HOST, if long() { LONG } else { LEN });
    assert_eq!(vm.run(CHECKSUM_ERRORS), "0");
    vm.power_off();
    host(&format!("! ip link show {tap} 2>/dev/null"));
}

/// A guest with a card on `tap`, of which `more` is said.
pub(crate) fn boot(arch: &str, options: &str, tap: &str, more: &str) -> Vm {
    let card = format!("mode=tap,tapif={tap},guest_mac=02:15:15:15:15:15{more}");
    let mut vm = Vm::boot(arch, &format!("{options} -n {card}"));
    host(&format!("ip addr add 10.77.0.1/24 dev {tap} && ip link set {tap} up"));
    set_up(&mut vm);
    vm
}

fn set_up(vm: &mut Vm) {
    vm.run(UP);
}

/// Sends bytes to the guest, which sends them back, over TCP, whose checksums both ends verify. `host` is where
/// the guest finds it.
pub(crate) fn exchange(vm: &mut Vm, host: &str, len: usize) {
    let listeners = [(); 2].map(|()| TcpListener::bind((host, 0)).unwrap());
    let [to, from] = listeners.each_ref().map(|end| end.local_addr().unwrap().port());
    vm.run(&format!("{{ nc {host} {to} </dev/null | nc {host} {from} & }} 2>/dev/null"));
    let [mut to, mut from] = listeners.map(|listener| listener.accept().unwrap().0);
    from.set_read_timeout(Some(DEADLINE)).unwrap();
    let sender = thread::spawn(move || {
        pieces(len).for_each(|piece| to.write_all(&piece).unwrap());
        to.shutdown(Shutdown::Write).unwrap();
        to
    });
    for piece in pieces(len) {
        let mut back = vec![0; piece.len()];
        from.read_exact(&mut back).unwrap();
        assert!(back == piece, "what went there came back");
    }
    assert_eq!(from.read(&mut [0]).unwrap(), 0, "nothing more");
    sender.join().unwrap();
}

/// Sends bytes to the guest, which keeps them in a file.
fn send(vm: &mut Vm) {
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sender = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        pieces(LEN).for_each(|piece| stream.write_all(&piece).unwrap());
        stream.shutdown(Shutdown::Write).unwrap();
    });
    vm.run(&format!("nc {HOST} {port} </dev/null >/tmp/file"));
    sender.join().unwrap();
}

/// Has the guest send them back, by a program that hands a file to its kernel in pieces longer than a frame, as nc
/// does not.
fn have_back(vm: &mut Vm) {
    vm.run("httpd -p 8080 -h /tmp");
    let mut stream = TcpStream::connect("10.77.0.2:8080").unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"GET /file HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = vec![];
    stream.read_to_end(&mut answer).unwrap();
    let back = answer.split_off(answer.len() - LEN);
    assert!(back.into_iter().eq(pieces(LEN).flatten()), "what went there came back");
    vm.run("killall httpd");
}

/// So many bytes, in pieces that differ.
pub(crate) fn pieces(len: usize) -> impl Iterator<Item = Vec<u8>> {
    let byte = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
    let starts = (0..len).step_by(PIECE);
    starts.map(move |start| (start..len.min(start + PIECE)).map(byte).collect())
}

/// Pairs of queues that the tap spreads frames over.
pub(crate) fn queues(tap: &str) -> usize {
    host(&format!("ls /sys/class/net/{tap}/queues")).matches("rx-").count()
}

/// Bytes of a frame on the average, to the guest and from it: first one way and then the other, so that frames of
/// one way are not those that acknowledge the other's.
fn mean_frames(vm: &mut Vm, tap: &str) -> [u64; 2] {
    let read = |counter: &str| {
        let path = format!("/sys/class/net/{tap}/statistics/{counter}");
        std::fs::read_to_string(path).unwrap().trim().parse::<u64>().unwrap()
    };
    // What the guest receives, a tap sends.
    let ways = [("tx", send as fn(&mut Vm)), ("rx", have_back)];
    ways.map(|(way, pass)| {
        let counted = || ["bytes", "packets"].map(|what| read(&format!("{way}_{what}")));
        let before = counted();
        pass(vm);
        let after = counted();
        (after[0] - before[0]) / (after[1] - before[1])
    })
}

/// Bytes of the longest frame on an Ethernet.
pub(crate) const FRAME: u64 = 1514;

#[test]
fn an_armv7_guest_uses_as_many_pairs_of_queues_as_it_has_cpus() {
    let (tap, mut vm) = ("cubie10q", boot(ARMV7, "", "cubie10q", ",mq=2"));
    assert_eq!(queues(tap), 2);
    let whole = mean_frames(&mut vm, tap);
    assert!(whole.into_iter().all(|mean| mean > FRAME), "{whole:?} bytes a frame");
    vm.run("echo 0 >/sys/devices/system/cpu/cpu1/online");
    vm.run("card=$(basename $(readlink /sys/class/net/eth0/device))");
    vm.run("(cd /sys/bus/virtio/drivers/virtio_net && echo $card >unbind && echo $card >bind)");
    assert_eq!(queues(tap), 1);
    set_up(&mut vm);
    let traffic = Traffic::start(&mut vm, HOST, HOST);
    reloads(&mut vm, &traffic, UP);
    traffic.end(&mut vm);
    vm.power_off();
}

#[test]
fn two_vms_of_one_name_have_different_addresses() {
    let mut vms =
        ["cubie5", "cubie6"].map(|tap| Vm::boot(ARM64, &format!("-n mode=tap,tapif={tap}")));
    let [one, other] = vms.each_mut().map(|vm| vm.run("cat /sys/class/net/eth0/address"));
    assert_ne!(one, other);
}

#[test]
fn an_armv7_guest_pings_and_talks_tcp_over_a_tap_which_is_gone_afterwards() {
    reaches_its_host(ARMV7, "", "cubie7");
}

#[test]
fn an_arm64_guest_pings_and_talks_tcp_over_a_tap_which_is_gone_afterwards() {
    reaches_its_host(ARM64, "", "cubie8");
}
