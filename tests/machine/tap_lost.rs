//! What may become of a tap while a guest uses it: the host's administrator takes it down, or deletes it.

use std::fs::{File, read_to_string};
use std::path::Path;

use crate::network::{HOST, UP};
use crate::stalled::{sleeps_while, waits_for_who_does_not_read};
use crate::traffic::Traffic;
use crate::vm::{ARM64, ARMV7, Vm, example, host, until};

/// For three seconds the guest sends to somebody who does not answer.
const TRIES: &str = "timeout 3 ping -q -A -W 1 10.77.0.1 >/dev/null 2>&1; true";
/// The guest's driver goes and comes back.
const AGAIN: &str = "card=$(basename $(readlink /sys/class/net/eth0/device)); (cd \
    /sys/bus/virtio/drivers/virtio_net && echo $card >unbind && echo $card >bind) && \
    ip link set eth0 up";
const CARRIER: &str = "cat /sys/class/net/eth0/carrier";
/// How `cat` answers about a link that is down.
const DOWN: &str = "\n0\r\n";
/// Where the host's packets go while the tap is down. By another way they would reach somebody who resets a
/// connection that he does not know.
const NOWHERE: &str = "unreachable 10.77.0.0/24 metric 9";

/// Lines that the VMM has said about its guest.
fn complaints(said: &Path) -> Vec<String> {
    let said = read_to_string(said).unwrap();
    said.lines().filter(|line| !line.contains("Ctrl-A")).map(str::to_owned).collect()
}

/// The tap goes down and comes up again, and both streams go on.
fn outlives_a_pause(vm: &mut Vm, tap: &str, traffic: &Traffic) {
    host(&format!("ip route add {NOWHERE}"));
    host(&format!("ip link set {tap} down"));
    sleeps_while(vm, TRIES);
    host(&format!("ip link set {tap} up"));
    traffic.goes_on();
    host(&format!("ip route delete {NOWHERE}"));
}

/// The tap goes for good. Nobody tells who has the kernel move its frames, before the driver wants something.
fn is_told(vm: &mut Vm, tap: &str, at_once: bool) {
    host(&format!("ip link delete {tap}"));
    if at_once {
        vm.ask_until(CARRIER, DOWN);
    }
    sleeps_while(vm, TRIES);
    for _ in 0..2 {
        vm.run(AGAIN);
        vm.ask_until(CARRIER, DOWN);
    }
}

fn outlives_its_tap(arch: &str, tap: &str, more: &str) {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let mut command = example(&format!("--arch {arch} -n mode=tap,tapif={tap}{more}"));
    command.stderr(File::create(&said).unwrap());
    let mut vm = Vm::start(command);
    vm.shell_is_up();
    host(&format!("ip addr add {HOST}/24 dev {tap} && ip link set {tap} up"));
    vm.run(UP);
    waits_for_who_does_not_read(&mut vm, HOST, HOST);
    let traffic = Traffic::start(&mut vm, HOST, HOST);
    outlives_a_pause(&mut vm, tap, &traffic);
    assert_eq!(complaints(&said), [""; 0], "nobody has anything to complain of");
    is_told(&mut vm, tap, !more.contains("vhost"));
    drop(traffic);
    until("the VMM complains", || !complaints(&said).is_empty());
    vm.power_off();
    let complaints = complaints(&said);
    assert!(complaints.len() == 1 && complaints[0].contains("tap was deleted"), "{complaints:?}");
}

#[test]
fn an_armv7_guest_with_several_queues_outlives_its_tap() {
    outlives_its_tap(ARMV7, "cubie14q", ",mq=2");
}

#[test]
fn an_arm64_guest_outlives_its_tap_that_the_kernel_serves() {
    outlives_its_tap(ARM64, "cubie14v", ",vhost=1");
}
