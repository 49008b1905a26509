//! Drivers that come and go.

use crate::vm::{ARM64, ARMV7, Vm};

/// Unbinds and binds a driver's first device, again and again.
const TWENTY_TIMES: &str = "again() { cd /sys/bus/virtio/drivers/$1 && device=$(ls -d virtio[0-9]*) && \
    for i in $(seq 20); do echo $device >unbind && echo $device >bind || return 1; done; cd; }";

fn survives_its_drivers(arch: &str) {
    let mut vm = Vm::boot(arch, "-n mode=tap");
    vm.run(TWENTY_TIMES);
    for driver in ["virtio_blk", "virtio_rng", "virtio_net"] {
        vm.run(&format!("again {driver}"));
    }
    vm.run("dd if=/dev/urandom of=/tmp/block bs=64k count=4 2>/dev/null");
    vm.run("dd if=/tmp/block of=/dev/vda bs=64k 2>/dev/null && sync");
    vm.run("dd if=/dev/vda bs=64k count=4 2>/dev/null | cmp - /tmp/block");
    vm.run("dd if=/dev/hwrng bs=16 count=4 of=/dev/null 2>/dev/null");
    assert_eq!(vm.run("cat /sys/class/net/eth0/carrier || ip link set eth0 up"), "");

    // The console under the shell's feet: the shell ends with it, init starts the next one.
    vm.send("(again virtio_console; echo ended $? >/tmp/ended) </dev/null >/dev/null 2>&1 &\n");
    vm.ask_until("cat /tmp/ended", "ended 0");
    vm.power_off();
}

#[test]
fn an_armv7_guest_unbinds_and_binds_each_driver_twenty_times() {
    survives_its_drivers(ARMV7);
}

#[test]
fn an_arm64_guest_unbinds_and_binds_each_driver_twenty_times() {
    survives_its_drivers(ARM64);
}
