//! Host ends that are not the host's network.

use std::path::Path;

use crate::under_traffic::{reload, times};
use crate::vm::{ARM64, ARMV7, Vm, arg};

/// The types of a pcapng file's blocks (draft-ietf-opsawg-pcapng §3.1).
fn blocks(file: &Path) -> Vec<u32> {
    let bytes = std::fs::read(file).unwrap();
    let (mut at, mut types) = (0, vec![]);
    while let Some(head) = bytes.get(at..at + 8) {
        let word = |from: usize| u32::from_le_bytes(head[from..from + 4].try_into().unwrap());
        types.push(word(0));
        at += word(4) as usize;
    }
    types
}

#[test]
fn two_vms_of_both_widths_talk_through_a_socket_and_what_they_say_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let cable = arg(folder.path().join("cable"));
    let file = |arch: &str| folder.path().join(format!("{arch}.pcapng"));
    let mut vms = [(ARMV7, ",listen", 1), (ARM64, "", 2)].map(|(arch, listen, n)| {
        let file = arg(file(arch));
        let network = format!("-n mode=socket,socket={cable}{listen},pcap={file},snaplen=200");
        let mut vm = Vm::boot(arch, &network);
        vm.run(&format!("ip addr add 10.80.0.{n}/24 dev eth0 && ip link set eth0 up"));
        vm
    });
    vms[0].ask_until("cat /sys/class/net/eth0/carrier", "1");
    vms[1].run("ping -q -c 3 -s 1400 10.80.0.1");
    vms[0].run("ping -q -c 3 10.80.0.2");
    // One's driver goes and comes back, while the other asks and asks.
    vms[0].run("{ ping -q -A -c 1000000 10.80.0.2 >/dev/null & } 2>/dev/null");
    for _ in 0..times() {
        reload(&mut vms[1], "ip addr add 10.80.0.2/24 dev eth0 && ip link set eth0 up");
        vms[1].run("ping -q -c 1 10.80.0.1");
    }
    vms[0].run("killall ping || true");
    let [mut first, second] = vms;
    // Requests and answers of six pings.
    let are_there = |arch: &str| {
        let blocks = blocks(&file(arch));
        assert_eq!(blocks[..2], [0x0a0d_0d0a, 1]);
        assert!(blocks[2..].iter().filter(|kind| **kind == 6).count() >= 12, "{blocks:?}");
    };
    // While it runs, and of one that is killed.
    are_there(ARMV7);
    drop(second);
    are_there(ARM64);
    // The other's link goes down with it.
    first.ask_until("cat /sys/class/net/eth0/carrier", "0");
    first.power_off();
}
