//! Boot to a shell, and the ways out.

use crate::vm::{ARM64, ARMV7, Vm};

fn boots_to_a_shell(arch: &str, machine: &str) {
    let mut vm = Vm::boot(arch, "--network none");
    assert_eq!(vm.run("uname -m"), machine);
    assert_eq!(vm.run("nproc"), "2");
    assert_eq!(vm.run("cat /sys/bus/virtio/devices/*/device | sort"), "0x0002\n0x0003\n0x0004");
    assert_eq!(vm.run("echo «both ways» | tr a-z A-Z"), "«BOTH WAYS»");
    let random =
        vm.run("dd if=/dev/hwrng bs=16 count=1 2>/dev/null | hexdump -v -e '1/1 \"%02x\"'");
    assert!(random.len() == 32 && random != "0".repeat(32), "{random}");
    vm.power_off();
}

#[test]
fn an_armv7_guest_boots_to_a_shell_with_its_devices_and_powers_off() {
    boots_to_a_shell(ARMV7, "armv7l");
}

#[test]
fn an_arm64_guest_boots_to_a_shell_with_its_devices_and_powers_off() {
    boots_to_a_shell(ARM64, "aarch64");
}

#[test]
fn a_guest_with_one_cpu_and_one_with_eight_boot() {
    for cpus in ["1", "8"] {
        let mut vm = Vm::boot(ARM64, &format!("--network none --cpus {cpus}"));
        assert_eq!(vm.run("nproc"), cpus);
        vm.power_off();
    }
}

#[test]
fn the_boards_uart_is_a_console_too() {
    let mut vm = Vm::boot(ARM64, "--network none --console serial");
    assert_eq!(vm.run("tty"), "/dev/ttyS0");
    vm.power_off();
}

#[test]
fn a_guest_whose_script_ends_powers_off() {
    let mut vm = Vm::start(crate::vm::example(
        "--arch arm64 --network none --params cubie.test=/proc/version",
    ));
    vm.expect("cubie: test exit");
    assert!(vm.wait().success());
}
