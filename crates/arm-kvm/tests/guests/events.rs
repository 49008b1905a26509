//! irqfd into the guest, ioeventfd out of it.

use cubie_arm_kvm::GuestMode;
use cubie_hv::{Vcpu, Vm};
use cubie_vm_irq::Spi;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::a64;
use crate::harness::{BOTH, DEVICE, Guest, Seen, wrote};

#[test]
fn a_wired_spi_is_taken_once_for_each_trigger() {
    let spi = Spi::new(3).unwrap();
    for programs in BOTH {
        let mut guest = Guest::new(programs.mode, 1, &[programs.take_irq]);
        guest.place(programs.irq_vector, &[programs.irq_handler]);
        let line = guest.vm.wire_spi(spi).unwrap();
        assert_eq!(guest.step(), wrote(DEVICE, 0), "ready");
        for _ in 0..3 {
            line.trigger();
            assert_eq!(guest.step(), wrote(DEVICE + 8, spi.intid().number()));
        }
    }
}

#[test]
fn an_offloaded_write_raises_its_eventfd_and_others_still_exit() {
    let mut guest = Guest::new(GuestMode::Aarch64, 1, &[a64::NOTIFY, a64::PROGRAMS.system_off]);
    let eventfd = EventFd::new(EFD_NONBLOCK).unwrap();
    guest.vm.offload_write(DEVICE + 0x50, Some(7), &eventfd).unwrap();
    assert_eq!(guest.step(), wrote(DEVICE + 0x50, 8));
    assert_eq!(eventfd.read().unwrap(), 1);
    assert_eq!(guest.step(), Seen::Off);
}

#[test]
fn an_offload_without_a_value_takes_every_write() {
    let mut guest = Guest::new(GuestMode::Aarch64, 1, &[a64::NOTIFY, a64::PROGRAMS.system_off]);
    let eventfd = EventFd::new(EFD_NONBLOCK).unwrap();
    guest.vm.offload_write(DEVICE + 0x50, None, &eventfd).unwrap();
    assert_eq!(guest.step(), Seen::Off);
    assert_eq!(eventfd.read().unwrap(), 2);
}

#[test]
fn an_spi_that_the_gic_does_not_count_is_refused() {
    let guest = Guest::new(GuestMode::Aarch64, 1, &[]);
    let last = Spi::new(987).unwrap();
    let error = guest.vm.wire_spi(last).unwrap_err();
    assert!(error.to_string().contains("SPI 987"), "{error}");
}

#[test]
fn kvm_counts_the_exits_of_a_vcpu_also_after_its_end() {
    let mut guest = Guest::new(GuestMode::Aarch64, 1, &[a64::NOTIFY, a64::PROGRAMS.system_off]);
    let eventfd = EventFd::new(EFD_NONBLOCK).unwrap();
    guest.vm.offload_write(DEVICE + 0x50, Some(7), &eventfd).unwrap();
    let counter = guest.vcpus[0].exit_counter().unwrap();
    let before = counter.exits().unwrap();
    assert_eq!((before.user_mmio, before.kernel_mmio), (0, 0));
    assert_eq!(guest.step(), wrote(DEVICE + 0x50, 8));
    assert_eq!(guest.step(), Seen::Off);
    let exits = counter.exits().unwrap();
    assert_eq!((exits.user_mmio, exits.kernel_mmio), (1, 1), "the offloaded one, the other one");
    assert!(exits.all >= 2, "{exits:?}");
    drop(guest);
    assert_eq!(counter.exits().unwrap(), exits);
}
