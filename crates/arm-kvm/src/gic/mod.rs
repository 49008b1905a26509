//! The interrupt controller in the kernel: what its versions share.
//!
//! A version is a file with the same doors: `MAX_VCPUS`, and `create` before the first vCPU, which
//! also says whether the host has it. [`start`] is the same for all, after the last vCPU.

mod v2;

use cubie_hv::{Gic, HvError};
use kvm_bindings::{
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
    kvm_device_attr,
};
use kvm_ioctls::{DeviceFd, VmFd};

use crate::KvmError;

/// INTIDs of a machine: 32 private ones and the SPIs (a multiple of 32, `KVM_DEV_ARM_VGIC_GRP_NR_IRQS`).
pub(crate) const INTIDS: u32 = 256;

/// Says no to a number of vCPUs that `gic` or KVM cannot serve.
pub(crate) fn check_vcpus(gic: Gic, asked: u8, host: usize) -> Result<(), KvmError> {
    let Gic::V2 { .. } = gic;
    match asked {
        0 => Err(KvmError::NoVcpus),
        _ if asked > v2::MAX_VCPUS || usize::from(asked) > host => {
            Err(KvmError::TooManyVcpus { asked, gic: v2::MAX_VCPUS, host })
        }
        _ => Ok(()),
    }
}

/// Makes the controller, with its frames where `gic` says.
pub(crate) fn create(vm: &VmFd, gic: Gic) -> Result<DeviceFd, KvmError> {
    let Gic::V2 { distributor, cpu_interface } = gic;
    let device = v2::create(vm, distributor, cpu_interface)?;
    set(&device, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &INTIDS, "size the GIC")?;
    Ok(device)
}

/// Completes the controller: from now on it knows all vCPUs and takes interrupts.
pub(crate) fn start(device: &DeviceFd) -> Result<(), HvError> {
    set(device, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, &(), "start the GIC")
}

/// `KVM_SET_DEVICE_ATTR` (KVM API 4.80) with a value of the attribute's own type.
fn set<T>(device: &DeviceFd, group: u32, attr: u32, value: &T, what: &str) -> Result<(), HvError> {
    let attr = kvm_device_attr {
        flags: 0,
        group,
        attr: attr.into(),
        addr: std::ptr::from_ref(value) as u64,
    };
    device.set_device_attr(&attr).map_err(|e| HvError::new(what, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIC: Gic = Gic::V2 { distributor: 0, cpu_interface: 0x1000 };

    #[test]
    fn one_to_eight_vcpus_fit_a_gic_v2() {
        for asked in 1..=8 {
            assert!(check_vcpus(GIC, asked, 512).is_ok());
        }
        assert!(matches!(check_vcpus(GIC, 0, 512), Err(KvmError::NoVcpus)));
        assert_eq!(
            check_vcpus(GIC, 9, 512).unwrap_err().to_string(),
            "9 vCPUs are too many: a GICv2 serves up to 8, this host up to 512"
        );
        assert!(check_vcpus(GIC, 5, 4).is_err(), "the host's limit counts too");
    }
}
