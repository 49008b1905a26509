//! GICv2 (ARM IHI 0048B) as KVM does it: `Documentation/virt/kvm/devices/arm-vgic.rst`.

use cubie_hv::HvError;
use kvm_bindings::{
    KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V2_ADDR_TYPE_CPU, KVM_VGIC_V2_ADDR_TYPE_DIST,
    kvm_create_device, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2,
};
use kvm_ioctls::{DeviceFd, VmFd};

use super::set;
use crate::KvmError;

/// Targets of an SPI are a byte with one bit a CPU (IHI 0048B §4.3.12).
pub(super) const MAX_VCPUS: u8 = 8;

/// Makes the controller with its two frames; says no where the host's GIC has no virtual GICv2.
pub(super) fn create(
    vm: &VmFd,
    distributor: u64,
    cpu_interface: u64,
) -> Result<DeviceFd, KvmError> {
    // Not with KVM_CREATE_DEVICE_TEST first: it makes no file, but kvm-ioctls would close one.
    let mut device =
        kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2, fd: 0, flags: 0 };
    let gic = vm.create_device(&mut device).map_err(|e| match e.errno() {
        libc::ENODEV => KvmError::NoGicV2,
        _ => HvError::new("create the GICv2", e).into(),
    })?;
    place(&gic, KVM_VGIC_V2_ADDR_TYPE_DIST, distributor)?;
    place(&gic, KVM_VGIC_V2_ADDR_TYPE_CPU, cpu_interface)?;
    Ok(gic)
}

fn place(gic: &DeviceFd, frame: u32, address: u64) -> Result<(), HvError> {
    let what = format!("place a frame of the GICv2 at {address:#x}");
    set(gic, KVM_DEV_ARM_VGIC_GRP_ADDR, frame, &address, &what)
}
