//! The lab from inside: `cargo test --target aarch64-unknown-linux-musl` on any machine, `cargo test` on ARM64.
#![cfg(target_arch = "aarch64")]

use kvm_bindings::{
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::Kvm;
use std::path::Path;

#[test]
fn kvm_answers_and_makes_a_machine_with_an_interrupt_controller() {
    let kvm = Kvm::new().unwrap();
    assert_eq!(kvm.get_api_version(), 12);
    let vm = kvm.create_vm().unwrap();
    vm.create_vcpu(0).unwrap();
    let controllers =
        [kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3];
    let made = controllers.iter().find(|&&type_| {
        let mut device = kvm_bindings::kvm_create_device { type_, fd: 0, flags: 0 };
        vm.create_device(&mut device).is_ok()
    });
    assert!(made.is_some());
}

#[test]
fn cargo_finds_the_package_where_it_is_outside() {
    let folder = std::env::current_dir().unwrap();
    assert_eq!(folder, Path::new(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(std::env::var_os("CARGO_MANIFEST_DIR").unwrap(), folder);
    assert!(folder.join("Cargo.toml").is_file());
    assert!(std::env::current_exe().unwrap().is_file());
}
