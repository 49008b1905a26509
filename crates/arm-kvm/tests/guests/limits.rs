//! What this host does not do, in words.

use cubie_arm_kvm::{GuestMode, Kvm, KvmError, VmConfig};
use cubie_hv::{Start, Vm};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::harness::{GIC, Guest};

fn config(vcpus: u8) -> VmConfig {
    VmConfig { guest: GuestMode::Aarch64, gic: GIC, vcpus }
}

#[test]
fn eight_vcpus_are_made_and_nine_refused() {
    let guest = Guest::new(GuestMode::Aarch64, 8, &[]);
    assert_eq!(guest.vcpus.len(), 8);
    let kvm = Kvm::open().unwrap();
    let error = kvm.create_vm(config(9)).unwrap_err();
    let host = kvm.limits().max_vcpus;
    assert!(matches!(error, KvmError::TooManyVcpus { asked: 9, gic: 8, .. }));
    assert!(error.to_string().ends_with(&format!("this host up to {host}")));
}

#[test]
fn more_vcpus_than_announced_are_refused() {
    let mut guest = Guest::new(GuestMode::Aarch64, 1, &[]);
    assert!(guest.vm.create_vcpu(1, Start::Off).is_err());
}

#[test]
fn memory_lies_within_the_guests_addresses() {
    let kvm = Kvm::open().unwrap();
    let bits = kvm.limits().ipa_bits;
    assert!((32..=52).contains(&bits), "{bits}");
    let mut vm = kvm.create_vm(config(1)).unwrap();
    let beyond = GuestMemoryMmap::from_ranges(&[(GuestAddress(1 << bits), 0x1_0000)]).unwrap();
    let error = vm.map_memory(&beyond).unwrap_err().to_string();
    assert!(error.contains(&format!("{bits} address bits")), "{error}");
    let inside = GuestMemoryMmap::from_ranges(&[(GuestAddress(1 << 30), 0x1_0000)]).unwrap();
    vm.map_memory(&inside).unwrap();
    assert!(vm.map_memory(&inside).is_err(), "memory is given once");
}
