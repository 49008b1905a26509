//! Drivers that come and go.

use crate::vm::{ARM64, ARMV7, Vm};

/// Unbinds and binds a driver's device, again and again.
const AGAIN: &str = "again() { cd /sys/bus/virtio/drivers/$1 && device=$(ls -d virtio[0-9]*) && \
    for i in $(seq $2); do echo $device >unbind && echo $device >bind || return 1; done; cd; }";

fn survives_its_drivers(arch: &str) {
    let mut vm = Vm::boot(arch, "-n mode=tap");
    vm.run(AGAIN);
    vm.run("again virtio_blk 20");
    vm.run("again virtio_net 20");
    // Not virtio_rng: Linux 6.1 sleeps ten seconds at each unbind, and soon oopses in its own
    // hwrng_unregister. The crate's own tests plug that device in again and again.
    vm.run("dd if=/dev/urandom of=/tmp/block bs=64k count=4 2>/dev/null");
    vm.run("dd if=/tmp/block of=/dev/vda bs=64k 2>/dev/null && sync");
    vm.run("dd if=/dev/vda bs=64k count=4 2>/dev/null | cmp - /tmp/block");
    vm.run("dd if=/dev/hwrng bs=16 count=4 of=/dev/null 2>/dev/null");
    vm.run("ip link set eth0 up");
    assert_eq!(vm.run("cat /sys/class/net/eth0/carrier"), "1");

    // The console under the shell's feet: the shell ends with it, init starts the next one.
    vm.send("(again virtio_console 20; echo ended $? >/tmp/ended) </dev/null >/dev/null 2>&1 &\n");
    vm.ask_until("cat /tmp/ended", "ended 0");
    vm.power_off();
}

#[test]
fn an_armv7_guest_unbinds_and_binds_its_drivers_again_and_again() {
    survives_its_drivers(ARMV7);
}

#[test]
fn an_arm64_guest_unbinds_and_binds_its_drivers_again_and_again() {
    survives_its_drivers(ARM64);
}
