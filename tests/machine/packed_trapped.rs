//! What the other tests do with split rings and registers in a page, with packed rings and trapped
//! registers: neither choice knows of the other, so that both are tried with all devices.

use crate::disk::keeps_files_across_a_reboot;
use crate::network::reaches_its_host;
use crate::reset::survives_its_drivers;
use crate::vm::{ARM64, ARMV7, Vm};

const OPTIONS: &str = "--ring packed --registers trapped";

/// The sorted choices of all drivers about feature 34, RING_PACKED.
const TAKEN: &str = "cut -c 35 /sys/bus/virtio/devices/*/features | sort -u";

fn is_taken_only_when_offered(arch: &str) {
    for (ring, taken) in [("split", "0"), ("packed", "1")] {
        let mut vm = Vm::boot(arch, &format!("--ring {ring} -n mode=tap"));
        assert_eq!(vm.run("ls /sys/bus/virtio/devices | wc -l"), "4");
        assert_eq!(vm.run(TAKEN), taken, "--ring {ring}");
        vm.power_off();
    }
}

#[test]
fn an_armv7_guest_takes_packed_rings_for_all_devices_when_they_are_offered() {
    is_taken_only_when_offered(ARMV7);
}

#[test]
fn an_arm64_guest_takes_packed_rings_for_all_devices_when_they_are_offered() {
    is_taken_only_when_offered(ARM64);
}

#[test]
fn an_armv7_guest_with_packed_rings_and_traps_keeps_files_across_a_reboot() {
    keeps_files_across_a_reboot(ARMV7, OPTIONS);
}

#[test]
fn an_arm64_guest_with_packed_rings_and_traps_keeps_files_across_a_reboot() {
    keeps_files_across_a_reboot(ARM64, OPTIONS);
}

#[test]
fn an_armv7_guest_with_packed_rings_and_traps_pings_and_talks_tcp() {
    reaches_its_host(ARMV7, OPTIONS, "cubie7p");
}

#[test]
fn an_arm64_guest_with_packed_rings_and_traps_pings_and_talks_tcp() {
    reaches_its_host(ARM64, OPTIONS, "cubie8p");
}

#[test]
fn an_armv7_guest_with_packed_rings_and_traps_unbinds_and_binds_its_drivers_again_and_again() {
    survives_its_drivers(ARMV7, OPTIONS);
}

#[test]
fn an_arm64_guest_with_packed_rings_and_traps_unbinds_and_binds_its_drivers_again_and_again() {
    survives_its_drivers(ARM64, OPTIONS);
}
