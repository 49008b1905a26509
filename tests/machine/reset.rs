//! Drivers that come and go.

use crate::vm::{ARM64, ARMV7, Vm, long};

/// Unbinds and binds a driver's device, again and again; `$3` is awaited after each time.
const AGAIN: &str = "again() { cd /sys/bus/virtio/drivers/$1 && device=$(ls -d virtio[0-9]*) && \
    for i in $(seq $2); do echo $device >unbind && echo $device >bind && ${3-:} || return 1; done; cd; }";

/// The kernel's own reader of the random source has had its first bytes and sleeps. Linux 6.1 takes ten
/// seconds to unbind the source before, and can crash in its `hwrng_unregister`.
const SETTLED: &str = "settled() { \
    until grep -qE 'add_hwgenerator_randomness|hwrng_fillfn' /proc/$(pidof hwrng)/wchan 2>&-; do :; done; }";

/// Runs something without a word on the console, and says in a file how it ended: Linux 6.1 can crash in its
/// `remove_vqs` when the driver goes while another CPU prints. No shell is started meanwhile.
const QUIETLY: &str = "quietly() { mv /etc/session /etc/next; \
    printf '#!/bin/sh\\nuntil [ -e /tmp/ended ]; do sleep 0.1; done; exec /etc/next\\n' >/etc/session; \
    chmod +x /etc/session; (trap '' HUP; $*; echo $? >/tmp/ended) </dev/null >/dev/null 2>&1; }";

/// How often a driver goes and comes back.
pub(crate) fn times() -> usize {
    if long() { 50 } else { 10 }
}

pub(crate) fn survives_its_drivers(arch: &str, options: &str) {
    let times = times();
    let mut vm = Vm::boot(arch, &format!("{options} -n mode=tap"));
    vm.run(AGAIN);
    vm.run(&format!("again virtio_blk {times}"));
    vm.run(&format!("again virtio_net {times}"));
    vm.run(SETTLED);
    vm.run(&format!("settled && again virtio_rng {times} settled"));
    vm.run("dd if=/dev/urandom of=/tmp/block bs=64k count=4 2>/dev/null");
    vm.run("dd if=/tmp/block of=/dev/vda bs=64k 2>/dev/null && sync");
    vm.run("dd if=/dev/vda bs=64k count=4 2>/dev/null | cmp - /tmp/block");
    vm.run("dd if=/dev/hwrng bs=16 count=4 of=/dev/null 2>/dev/null");
    vm.run("ip link set eth0 up");
    assert_eq!(vm.run("cat /sys/class/net/eth0/carrier"), "1");

    // The console under the shell's feet: the shell ends with it, init starts the next one afterwards.
    vm.run(QUIETLY);
    vm.send(&format!("quietly again virtio_console {times}\n"));
    vm.expect("/root # ");
    assert_eq!(vm.run("cat /tmp/ended"), "0");
    vm.power_off();
}

#[test]
fn an_armv7_guest_unbinds_and_binds_its_drivers_again_and_again() {
    survives_its_drivers(ARMV7, "");
}

#[test]
fn an_arm64_guest_unbinds_and_binds_its_drivers_again_and_again() {
    survives_its_drivers(ARM64, "");
}
