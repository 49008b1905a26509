//! vhost-net: the host's kernel serves the network card's queues.

use crate::network::reaches_its_host_with;
use crate::stalled::threads_called;
use crate::vm::{ARM64, ARMV7, Vm, host};

/// Linux calls the kernel's threads after the process that they work for.
fn threads_of_vhost(vm: &Vm) -> usize {
    threads_called(&format!("vhost-{}", vm.pid()), "/proc").len()
}

fn is_served_by_the_kernel(arch: &str, options: &str, tap: &str) {
    let mut vm = Vm::boot(arch, &format!("{options} -n mode=tap,tapif={tap},vhost=1,mq=2"));
    assert_eq!(threads_of_vhost(&vm), 2, "one a pair of queues");
    host(&format!("ip addr add 10.78.0.1/24 dev {tap} && ip link set {tap} up"));
    let up = "ip addr add 10.78.0.2/24 dev eth0 && ip link set eth0 up";
    vm.run(up);
    vm.run("ping -q -c 3 10.78.0.1");

    // The driver goes and comes back in the middle of a conversation.
    vm.run("ping -q -A -c 100000 10.78.0.1 >/dev/null & device=$(basename $(readlink /sys/class/net/eth0/device))");
    vm.run(&format!(
        "cd /sys/bus/virtio/drivers/virtio_net && for i in $(seq 20); do \
         echo $device >unbind && echo $device >bind && {up} && ping -q -c 1 10.78.0.1 >/dev/null || break; done; \
         cd; killall ping; [ $i = 20 ]"
    ));
    vm.run("ping -q -c 3 10.78.0.1");

    // So does the machine.
    vm.send("reboot\n");
    vm.shell_is_up();
    vm.run(up);
    vm.run("ping -q -c 3 10.78.0.1");
    assert_eq!(threads_of_vhost(&vm), 2);
    vm.power_off();
}

#[test]
fn an_armv7_guest_talks_tcp_through_the_kernel() {
    reaches_its_host_with(ARMV7, "", "cubie9", ",vhost=1");
}

#[test]
fn an_arm64_guest_talks_tcp_through_the_kernel() {
    reaches_its_host_with(ARM64, "", "cubie9", ",vhost=1");
}

#[test]
fn an_armv7_guests_driver_comes_and_goes_with_the_kernel_at_work() {
    is_served_by_the_kernel(ARMV7, "", "cubie10");
}

#[test]
fn an_arm64_guests_driver_comes_and_goes_with_the_kernel_at_work() {
    is_served_by_the_kernel(ARM64, "", "cubie10");
}

#[test]
fn trapped_registers_have_their_interrupts_relayed() {
    is_served_by_the_kernel(ARM64, "--registers trapped", "cubie11");
}

#[test]
fn legacy_drivers_are_served_too() {
    is_served_by_the_kernel(ARM64, "--virtio legacy", "cubie12");
}
