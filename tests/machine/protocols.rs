//! What else passes through a tap: IPv6, long frames, VLANs, fragments, big datagrams, and frames for others.

use std::net::UdpSocket;

use crate::ethtool;
use crate::network::{HOST, boot, exchange};
use crate::vm::{ARM64, ARMV7, DEADLINE, Vm, host};

/// How the guest's shell asks for [`in_a_guest`], and where that listens.
const WISH: &str = "CUBIE_ECHO";
const ECHO: &str = "10.77.0.2:9000";
/// Bytes that pass both ways.
const SOME: usize = 1 << 20;
/// Somebody else on the tap, and a group.
const OTHER: &str = "10.77.0.9";
const GROUP: &str = "239.1.2.3";
/// Frames for them.
const STRAYS: u64 = 50;

fn speaks_ipv6(vm: &mut Vm, tap: &str) {
    host(&format!("echo 0 >/proc/sys/net/ipv6/conf/{tap}/accept_dad"));
    host(&format!("ip addr add fd00:77::1/64 dev {tap}"));
    vm.run("echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad");
    vm.run("ip addr add fd00:77::2/64 dev eth0");
    let local = format!("ip -6 -o addr show dev {tap} scope link | sed 's/.*inet6 //; s,/.*,,'");
    let local = host(&local);
    vm.run(&format!("ping -6 -q -c 2 {}%eth0", local.trim()));
    vm.run("ping -6 -q -c 2 fd00:77::1");
    host("ping -6 -q -c 2 fd00:77::2");
    exchange(vm, "fd00:77::1", SOME);
}

/// Frames of the tap's that came from the guest and went to it.
fn frames(tap: &str) -> [u64; 2] {
    ["rx", "tx"].map(|way| {
        let path = format!("/sys/class/net/{tap}/statistics/{way}_packets");
        std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
    })
}

/// Frames both ways for ten pings with so many bytes, and their answers.
fn pings(vm: &mut Vm, len: usize, tap: &str) -> [u64; 2] {
    let before = frames(tap);
    vm.run(&format!("ping -q -c 10 -A -s {len} {HOST}"));
    let after = frames(tap);
    [after[0] - before[0], after[1] - before[1]]
}

/// Frames of 9000 bytes pass in one piece, when both ends say so, and others in several.
fn takes_long_frames(vm: &mut Vm, tap: &str) {
    for (mtu, pieces) in [(9000, 1), (1280, 8)] {
        host(&format!("ip link set {tap} mtu {mtu}"));
        vm.run(&format!("ip link set eth0 mtu {mtu}"));
        let frames = pings(vm, 8900, tap);
        // A few are of the kernels' own accord.
        let few = 10 * pieces..10 * pieces + 10;
        assert!(frames.iter().all(|count| few.contains(count)), "{frames:?} with an MTU of {mtu}");
        exchange(vm, HOST, SOME);
    }
    vm.run("! ip link set eth0 mtu 70000 2>/dev/null");
    host(&format!("ip link set {tap} mtu 1500"));
    vm.run("ip link set eth0 mtu 1500");
    // The longest datagram that there is.
    vm.run(&format!("ping -q -c 2 -s 65507 {HOST}"));
    host("ping -q -c 2 -s 65507 10.77.0.2");
}

/// Frames that the guest's card has received of those for `address`, which the host sends.
fn strays_that_come(vm: &mut Vm, address: &str) -> u64 {
    let received = "cat /sys/class/net/eth0/statistics/rx_packets";
    let before: u64 = vm.run(received).parse().unwrap();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    (0..STRAYS).for_each(|_| assert_eq!(socket.send_to(b"stray", (address, 9)).unwrap(), 5));
    // What comes behind them.
    vm.run(&format!("ping -q -c 1 {HOST}"));
    vm.run(received).parse::<u64>().unwrap() - before
}

/// The card keeps from the guest what it does not want to hear.
fn filters(vm: &mut Vm, tap: &str) {
    host(&format!("arp -i {tap} -s {OTHER} 02:00:00:00:00:99"));
    host(&format!("ip route add {GROUP} dev {tap}"));
    for (address, mode) in [(OTHER, "promisc"), (GROUP, "allmulti")] {
        for (not, come) in [("", true), ("-", false)] {
            vm.run(&format!("ifconfig eth0 {not}{mode}"));
            let count = strays_that_come(vm, address);
            assert_eq!(count >= STRAYS, come, "{count} of {STRAYS} come with {not}{mode}");
        }
    }
}

/// The card lets frames of those VLANs in that the guest has an interface for.
fn has_vlans(vm: &mut Vm, tap: &str) {
    for vlan in [5, 6] {
        host(&format!("ip link add link {tap} name v{vlan} type vlan id {vlan}"));
        host(&format!("ip addr add 10.77.{vlan}.1/24 dev v{vlan} && ip link set v{vlan} up"));
        host(&format!(
            "arp -i v{vlan} -s 10.77.{vlan}.2 {}",
            vm.run("cat /sys/class/net/eth0/address")
        ));
    }
    let add = |vlan| {
        format!(
            "ip link add link eth0 name v{vlan} type vlan id {vlan} && \
             ip addr add 10.77.{vlan}.2/24 dev v{vlan} && ip link set v{vlan} up"
        )
    };
    vm.run(&add(5));
    vm.run("ping -q -c 3 10.77.5.1");
    exchange(vm, "10.77.5.1", SOME);
    assert!(strays_that_come(vm, "10.77.6.2") < STRAYS, "nobody has asked for them");
    vm.run(&add(6));
    assert!(strays_that_come(vm, "10.77.6.2") >= STRAYS);
    vm.run("ip link delete v6");
    assert!(strays_that_come(vm, "10.77.6.2") < STRAYS, "nobody wants them any more");
}

/// Datagrams of all lengths, in one frame and in many.
fn echoes(vm: &mut Vm) {
    vm.run("cat /dev/vda >/tmp/program && chmod +x /tmp/program");
    let program = "/tmp/program --ignored --exact protocols::in_a_guest";
    vm.run(&format!("{{ {WISH}=1 {program} >/dev/null & }} 2>/dev/null"));
    vm.ask_until("netstat -lun", ":9000");
    let socket = UdpSocket::bind((HOST, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    for len in [1, 1472, 1473, 9000, 65507] {
        let sent: Vec<u8> =
            (0..len).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        socket.send_to(&sent, ECHO).unwrap();
        let mut back = vec![0; 65536];
        let (count, from) = socket.recv_from(&mut back).unwrap();
        assert_eq!(from.to_string(), ECHO);
        assert!(back[..count] == sent, "{len} bytes");
    }
    let errors = "awk '/^Udp:/ { n = $8 } END { print n }' /proc/net/snmp";
    assert_eq!(vm.run(errors), "0", "no checksum was wrong");
    vm.run("killall program");
}

#[test]
#[ignore = "a guest runs it"]
fn in_a_guest() {
    assert!(std::env::var_os(WISH).is_some(), "only where it is asked for");
    let socket = UdpSocket::bind(ECHO).unwrap();
    let mut bytes = vec![0; 65536];
    loop {
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        socket.send_to(&bytes[..len], from).unwrap();
    }
}

#[test]
fn an_arm64_guest_has_ipv6_long_frames_vlans_filters_and_big_datagrams() {
    let folder = tempfile::tempdir().unwrap();
    let options = format!("--disk {},ro", ethtool::disk(&folder));
    let (tap, mut vm) = ("cubie15", boot(ARM64, &options, "cubie15", ""));
    echoes(&mut vm);
    speaks_ipv6(&mut vm, tap);
    filters(&mut vm, tap);
    has_vlans(&mut vm, tap);
    takes_long_frames(&mut vm, tap);
    vm.power_off();
}

#[test]
fn an_armv7_guest_has_ipv6_long_frames_vlans_and_filters_and_is_told_the_taps_mtu() {
    let tap = "cubie16";
    host(&format!("tunctl -t {tap} && ip link set {tap} mtu 9000"));
    let mut vm = boot(ARMV7, "", tap, "");
    assert_eq!(vm.run("cat /sys/class/net/eth0/mtu"), "9000");
    vm.run("! ip link set eth0 mtu 9001 2>/dev/null");
    speaks_ipv6(&mut vm, tap);
    filters(&mut vm, tap);
    has_vlans(&mut vm, tap);
    takes_long_frames(&mut vm, tap);
    vm.power_off();
    host(&format!("ip link delete {tap}"));
}
