//! What a guest does to its card while frames pass.

use crate::cable::{From, Sample};
use crate::ethtool;
use crate::network::{FRAME, HOST, UP, boot, queues};
use crate::traffic::Traffic;
use crate::vm::{ARM64, Vm, host, long, until};

/// Where the copy of this program lies in the guest.
const PROGRAM: &str = "/tmp/ethtool";
/// The other way to the host.
const HOST6: &str = "fd00:77::1";

/// What is turned off, and what is then to be seen on the tap: whether the host sends longer frames than an
/// Ethernet has, whether the guest does, and whether the guest's have their checksums.
const OFFLOADS: [(&str, [bool; 3]); 6] = [
    ("tx-checksum-ip-generic", [true, false, true]),
    ("tx-scatter-gather", [true, false, false]),
    ("tx-tcp-segmentation", [true, false, false]),
    // Of TCP over IPv4, nothing.
    ("tx-tcp6-segmentation", [true, true, false]),
    // Of TCP, nothing, since the card segments.
    ("tx-generic-segmentation", [true, true, false]),
    ("rx-gro-hw", [false, true, false]),
];
const ALL_ON: [bool; 3] = [true, true, false];

/// How often a driver goes and comes back.
pub(crate) fn times() -> usize {
    if long() { 50 } else { 2 }
}

/// The driver goes and comes back. `up` sets the interface up.
pub(crate) fn reload(vm: &mut Vm, up: &str) {
    vm.run("card=$(basename $(readlink /sys/class/net/eth0/device))");
    vm.run("cd /sys/bus/virtio/drivers/virtio_net && echo $card >unbind");
    vm.run(&format!("echo $card >bind && cd && {up}"));
}

/// The driver goes and comes back, again and again, in the middle of both streams.
pub(crate) fn reloads(vm: &mut Vm, traffic: &Traffic, up: &str) {
    let before = traffic.bytes();
    for _ in 0..times() {
        reload(vm, up);
        traffic.goes_on();
    }
    let bytes = traffic.bytes() - before;
    eprintln!("{} reloads of the driver, {bytes} bytes meanwhile", times());
}

/// Any number of pairs.
fn changes_its_pairs(vm: &mut Vm, traffic: &Traffic, tap: &str) {
    assert_eq!(queues(tap), 2, "one for each of the guest's CPUs");
    for pairs in [1, 3, 4, 2] {
        vm.run(&ethtool::command(PROGRAM, "channels", pairs));
        assert_eq!(queues(tap), pairs);
        traffic.goes_on();
    }
}

/// Any of the offloads that Linux lets one switch, off and on, each with its effect.
fn switches_its_offloads(vm: &mut Vm, traffic: &Traffic, tap: &str) {
    for (offload, effect) in OFFLOADS {
        for (value, effect) in [(0, effect), (1, ALL_ON)] {
            switch(vm, offload, value);
            shows(traffic, tap, &format!("{offload} {value}"), effect);
        }
    }
    receives_in_one(vm, traffic);
}

fn switch(vm: &mut Vm, offload: &str, value: usize) {
    vm.run(&ethtool::command(PROGRAM, offload, value));
}

/// What passes on the tap, once what was under way has.
fn shows(traffic: &Traffic, tap: &str, what: &str, [host_long, guest_long, summed]: [bool; 3]) {
    traffic.goes_on();
    for (from, whose, long) in
        [(From::Host, "the host's", host_long), (From::Guest, "the guest's", guest_long)]
    {
        let mut sample = Sample::take(tap, from);
        if long {
            until(&format!("{whose} are long with {what}"), || {
                let is_so = sample.longest > FRAME;
                if !is_so {
                    sample = Sample::take(tap, from);
                }
                is_so
            });
        }
        eprintln!("{what}: {whose} {sample:?}");
        assert_eq!(sample.longest > FRAME, long, "{what}: {whose} {sample:?}");
        if from == From::Guest {
            assert_eq!(sample.are_summed(), summed, "{what}: {sample:?}");
        }
    }
}

/// GRO shows in the guest alone: its IP receives several of the card's frames as one packet, or each.
fn receives_in_one(vm: &mut Vm, traffic: &Traffic) {
    switch(vm, "rx-gro-hw", 0);
    for (value, merges) in [(0, false), (1, true)] {
        switch(vm, "rx-gro", value);
        traffic.goes_on();
        let [frames, packets] = received(vm);
        (0..4).for_each(|_| traffic.goes_on());
        let after = received(vm);
        let [frames, packets] = [after[0] - frames, after[1] - packets];
        eprintln!("rx-gro {value}: {packets} packets of {frames} frames");
        assert_eq!(packets * 10 < frames * 7, merges, "{packets} packets of {frames} frames");
    }
    switch(vm, "rx-gro-hw", 1);
}

/// The card's frames so far, and packets of IP that came of them.
fn received(vm: &mut Vm) -> [u64; 2] {
    let files = "/sys/class/net/eth0/statistics/rx_packets /proc/net/snmp";
    let both =
        vm.run(&format!("awk 'NF == 1 || /^Ip: [0-9]/ {{ print NF == 1 ? $1 : $4 }}' {files}"));
    let mut counts = both.lines().map(|count| count.trim().parse().unwrap());
    [(); 2].map(|()| counts.next().expect("two counts"))
}

/// What is said of segments over IPv4 does not hold for those over IPv6.
fn switches_its_offload_of_ipv6(vm: &mut Vm, tap: &str) {
    host(&format!("echo 0 >/proc/sys/net/ipv6/conf/{tap}/accept_dad"));
    host(&format!("ip addr add {HOST6}/64 dev {tap}"));
    vm.run("echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad && ip addr add fd00:77::2/64 dev eth0");
    let traffic = Traffic::start(vm, HOST6, HOST6);
    let offload = "tx-tcp6-segmentation";
    for (value, effect) in [(0, [true, false, false]), (1, ALL_ON)] {
        switch(vm, offload, value);
        shows(&traffic, tap, &format!("{offload} {value}, over IPv6"), effect);
    }
    traffic.end(vm);
}

/// Its pairs, its offloads, and last its driver.
fn is_changed_under_traffic(tap: &str, more: &str) {
    let folder = tempfile::tempdir().unwrap();
    let options = format!("--disk {},ro", ethtool::disk(&folder));
    let mut vm = boot(ARM64, &options, tap, more);
    vm.run(&format!("cat /dev/vda >{PROGRAM} && chmod +x {PROGRAM}"));
    let traffic = Traffic::start(&mut vm, HOST, HOST);
    changes_its_pairs(&mut vm, &traffic, tap);
    switches_its_offloads(&mut vm, &traffic, tap);
    reloads(&mut vm, &traffic, UP);
    traffic.end(&mut vm);
    switches_its_offload_of_ipv6(&mut vm, tap);
    vm.power_off();
}

#[test]
fn an_arm64_guest_changes_its_pairs_its_offloads_and_its_driver_under_traffic() {
    is_changed_under_traffic("cubie9q", ",mq=4");
}

#[test]
fn an_arm64_guest_changes_its_pairs_its_offloads_and_its_driver_under_traffic_of_the_kernels() {
    is_changed_under_traffic("cubie9v", ",mq=4,vhost=1");
}
