//! The legacy interface: Linux works with it as it did before virtio had a version 1.

use crate::disk::keeps_files_across_a_reboot;
use crate::network::reaches_its_host;
use crate::reset::survives_its_drivers;
use crate::vm::{ARM64, ARMV7, Vm};

const OPTIONS: &str = "--virtio legacy";
/// The sorted choices of all drivers about features 32 to 63: VERSION_1 and what came with it.
const TAKEN: &str = "cut -c 33- /sys/bus/virtio/devices/*/features | sort -u";

fn is_all_that_the_drivers_see(arch: &str) {
    let mut vm = Vm::boot(arch, &format!("{OPTIONS} -n mode=tap"));
    assert_eq!(vm.run("ls /sys/bus/virtio/devices | wc -l"), "4");
    assert_eq!(vm.run(TAKEN), "0".repeat(32));
    vm.power_off();
}

#[test]
fn an_armv7_guest_finds_legacy_devices_only() {
    is_all_that_the_drivers_see(ARMV7);
}

#[test]
fn an_arm64_guest_finds_legacy_devices_only() {
    is_all_that_the_drivers_see(ARM64);
}

#[test]
fn an_armv7_guest_with_legacy_devices_keeps_files_across_a_reboot() {
    keeps_files_across_a_reboot(ARMV7, OPTIONS);
}

#[test]
fn an_arm64_guest_with_legacy_devices_keeps_files_across_a_reboot() {
    keeps_files_across_a_reboot(ARM64, OPTIONS);
}

#[test]
fn an_armv7_guest_with_legacy_devices_pings_and_talks_tcp() {
    reaches_its_host(ARMV7, OPTIONS, "cubie7l");
}

#[test]
fn an_arm64_guest_with_legacy_devices_pings_and_talks_tcp() {
    reaches_its_host(ARM64, OPTIONS, "cubie8l");
}

#[test]
fn an_armv7_guest_with_legacy_devices_unbinds_and_binds_its_drivers_again_and_again() {
    survives_its_drivers(ARMV7, OPTIONS);
}

#[test]
fn an_arm64_guest_with_legacy_devices_unbinds_and_binds_its_drivers_again_and_again() {
    survives_its_drivers(ARM64, OPTIONS);
}
