//! `/dev/kvm`, and what this host can do.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cubie_hv::HvError;
use kvm_bindings::KVM_API_VERSION;
use kvm_ioctls::Cap;

use crate::{GuestMode, KvmError, KvmVm, VmConfig, gic};

/// What KVM offers on this host (`KVM_CHECK_EXTENSION`, KVM API 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// vCPUs of one machine (`KVM_CAP_MAX_VCPUS`); its interrupt controller may serve fewer.
    pub max_vcpus: usize,
    /// Bits of a guest-physical address (`KVM_CAP_ARM_VM_IPA_SIZE`).
    pub ipa_bits: u32,
    /// True when guests can run in AArch32 at EL1 (`KVM_CAP_ARM_EL1_32BIT`).
    pub aarch32: bool,
    /// True when stores can be kept without an exit (`KVM_CAP_COALESCED_MMIO`).
    pub coalesced_mmio: bool,
    /// True when pages can be read-only to the guest (`KVM_CAP_READONLY_MEM`).
    pub readonly_memory: bool,
}

/// KVM itself, opened and found good.
#[derive(Debug)]
pub struct Kvm {
    fd: kvm_ioctls::Kvm,
    limits: HostLimits,
}

impl Kvm {
    /// Opens `/dev/kvm`.
    pub fn open() -> Result<Self, KvmError> {
        Self::open_at(Path::new("/dev/kvm"))
    }

    /// Opens KVM's device where it has another name.
    pub fn open_at(path: &Path) -> Result<Self, KvmError> {
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| KvmError::Missing(path.into()))?;
        let fd = kvm_ioctls::Kvm::new_with_path(name).map_err(|e| refusal(path, e.into()))?;
        if fd.get_api_version() != KVM_API_VERSION as i32 {
            return Err(KvmError::NotKvm(path.into()));
        }
        let needed = [
            (Cap::ArmPsci02, "PSCI 0.2"),
            (Cap::DeviceCtrl, "in-kernel devices"),
            (Cap::Irqfd, "irqfd"),
            (Cap::Ioeventfd, "ioeventfd"),
            (Cap::ImmediateExit, "immediate exit"),
        ];
        match needed.into_iter().find(|(cap, _)| !fd.check_extension(*cap)) {
            Some((_, name)) => Err(KvmError::TooOld(name)),
            None => Ok(Self { limits: limits(&fd), fd }),
        }
    }

    /// What this host can do.
    pub fn limits(&self) -> HostLimits {
        self.limits
    }

    /// Makes a machine without memory or vCPUs.
    pub fn create_vm(&self, config: VmConfig) -> Result<KvmVm, KvmError> {
        if config.guest == GuestMode::Aarch32 && !self.limits.aarch32 {
            return Err(KvmError::NoAarch32);
        }
        gic::check_vcpus(config.gic, config.vcpus, self.limits.max_vcpus)?;
        // Type 0 means 40 bits, which is what a host without the capability has.
        let bits = match self.fd.check_extension_int(Cap::ArmVmIPASize) {
            ..=0 => 0,
            _ => u64::from(self.limits.ipa_bits),
        };
        let vm = self.fd.create_vm_with_type(bits);
        let vm = vm.map_err(|e| HvError::new("create the virtual machine", e))?;
        KvmVm::new(vm, config, self.limits)
    }
}

fn limits(kvm: &kvm_ioctls::Kvm) -> HostLimits {
    let ipa_bits = u32::try_from(kvm.get_host_ipa_limit()).unwrap_or(0);
    HostLimits {
        max_vcpus: kvm.get_max_vcpus(),
        ipa_bits: if ipa_bits == 0 { 40 } else { ipa_bits },
        aarch32: kvm.check_extension(Cap::ArmEl132bit),
        coalesced_mmio: kvm.check_extension(Cap::CoalescedMmio),
        readonly_memory: kvm.check_extension(Cap::ReadonlyMem),
    }
}

fn refusal(path: &Path, source: io::Error) -> KvmError {
    match source.raw_os_error() {
        // The last two: the node is there, the kernel behind it is not.
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => KvmError::Missing(path.into()),
        Some(libc::EACCES | libc::EPERM) => KvmError::Denied(path.into()),
        _ => KvmError::Unusable { path: path.into(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cubie_hv::{Gic, Vm};

    #[test]
    fn a_denied_device_names_the_group_to_join() {
        let error = refusal(Path::new("/dev/kvm"), io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(
            error.to_string(),
            "/dev/kvm may not be opened: join the group `kvm` or run as root"
        );
    }

    #[test]
    fn a_node_without_a_kernel_behind_it_is_missing() {
        let error = refusal(Path::new("/dev/kvm"), io::Error::from_raw_os_error(libc::ENODEV));
        assert!(matches!(error, KvmError::Missing(_)));
    }

    #[test]
    fn what_is_not_kvm_is_recognised() {
        let missing = Kvm::open_at(Path::new("/dev/no-such-kvm"));
        assert!(matches!(missing, Err(KvmError::Missing(_))), "{missing:?}");
        let null = Kvm::open_at(Path::new("/dev/null"));
        assert!(matches!(null, Err(KvmError::NotKvm(_))), "{null:?}");
    }

    #[test]
    fn what_a_host_does_not_have_is_unsupported_and_nothing_else_is() {
        let mut kvm = Kvm::open().unwrap();
        assert!(kvm.limits.readonly_memory, "KVM on ARM has had it since Linux 4.0");
        assert!(kvm.limits.coalesced_mmio);
        kvm.limits.readonly_memory = false;
        kvm.limits.coalesced_mmio = false;
        let gic = Gic::V2 { distributor: 0x01c8_1000, cpu_interface: 0x01c8_2000 };
        let config = VmConfig { guest: GuestMode::Aarch64, gic, vcpus: 1 };
        let vm = kvm.create_vm(config).unwrap();
        let page = vm.map_readonly_page(0x0a00_0000).err().unwrap();
        let stores = vm.coalesce_writes(0x0a00_0080, 8).unwrap_err();
        assert!(page.is_unsupported() && stores.is_unsupported(), "{page}, {stores}");
    }
}
