//! virtio-net over a tap.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;

use crate::vm::{ARM64, ARMV7, Vm, host};

/// Bytes that a TCP connection carries each way.
const LEN: usize = 4 << 20;

fn pattern() -> Vec<u8> {
    (0..LEN as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

pub(crate) fn reaches_its_host(arch: &str, options: &str, tap: &str) {
    reaches_its_host_with(arch, options, tap, "");
}

/// `more` is said of the card.
pub(crate) fn reaches_its_host_with(arch: &str, options: &str, tap: &str, more: &str) {
    let args = format!("{options} -n mode=tap,tapif={tap},guest_mac=02:15:15:15:15:15{more}");
    let mut vm = Vm::boot(arch, &args);
    host(&format!("ip addr add 10.77.0.1/24 dev {tap} && ip link set {tap} up"));
    assert_eq!(vm.run("cat /sys/class/net/eth0/address"), "02:15:15:15:15:15");
    vm.run("ip addr add 10.77.0.2/24 dev eth0 && ip link set eth0 up");
    vm.run("ping -q -c 3 10.77.0.1");
    host("ping -q -c 3 10.77.0.2");

    let (to_guest, from_guest) = (listen(), listen());
    let ports = [&to_guest, &from_guest].map(|socket| socket.local_addr().unwrap().port());
    let sender = thread::spawn(move || {
        let mut stream = to_guest.accept().unwrap().0;
        stream.write_all(&pattern()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    });
    vm.run(&format!("nc 10.77.0.1 {} </dev/null >/tmp/file", ports[0]));
    sender.join().unwrap();
    let receiver = thread::spawn(move || {
        let mut back = vec![];
        from_guest.accept().unwrap().0.read_to_end(&mut back).unwrap();
        back
    });
    vm.run(&format!("nc 10.77.0.1 {} </tmp/file", ports[1]));
    assert!(receiver.join().unwrap() == pattern(), "what went there came back");
    vm.power_off();
    host(&format!("! ip link show {tap} 2>/dev/null"));
}

#[test]
fn two_vms_of_one_name_have_different_addresses() {
    let mut vms =
        ["cubie5", "cubie6"].map(|tap| Vm::boot(ARM64, &format!("-n mode=tap,tapif={tap}")));
    let [one, other] = vms.each_mut().map(|vm| vm.run("cat /sys/class/net/eth0/address"));
    assert_ne!(one, other);
}

fn listen() -> TcpListener {
    TcpListener::bind("10.77.0.1:0").unwrap()
}

#[test]
fn an_armv7_guest_pings_and_talks_tcp_over_a_tap_which_is_gone_afterwards() {
    reaches_its_host(ARMV7, "", "cubie7");
}

#[test]
fn an_arm64_guest_pings_and_talks_tcp_over_a_tap_which_is_gone_afterwards() {
    reaches_its_host(ARM64, "", "cubie8");
}
