//! Core registers, by name.

use std::fmt::Write;
use std::mem::offset_of;

use cubie_hv::HvError;
use kvm_bindings::{
    KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_SIZE_U64, PSR_A_BIT, PSR_D_BIT, PSR_F_BIT, PSR_I_BIT,
    PSR_MODE_EL1h, kvm_regs, user_pt_regs,
};
use kvm_ioctls::VcpuFd;

use crate::GuestMode;

/// Supervisor mode of AArch32 (ARM DDI 0487 G1.9.1), which kvm-bindings has no name for.
const AARCH32_MODE_SVC: u32 = 0x13;

/// Identifier of a 64-bit core register (KVM API 4.68). An AArch32 guest's r0–r14 and CPSR are the low
/// halves of X0–X14 and PSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CoreReg(u64);

impl CoreReg {
    pub(crate) const PC: Self = Self::at(offset_of!(user_pt_regs, pc));
    pub(crate) const PSTATE: Self = Self::at(offset_of!(user_pt_regs, pstate));

    /// General-purpose register `n`, 0 to 30.
    pub(crate) const fn x(n: usize) -> Self {
        assert!(n < 31, "there are 31 general-purpose registers");
        Self::at(offset_of!(user_pt_regs, regs) + n * size_of::<u64>())
    }

    /// The register at `offset` in `kvm_regs.regs`; identifiers count in 32-bit words.
    const fn at(offset: usize) -> Self {
        let word = (offset_of!(kvm_regs, regs) + offset) / size_of::<u32>();
        Self(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE as u64 | word as u64)
    }

    fn get(self, vcpu: &VcpuFd) -> Option<u64> {
        let mut bytes = [0; 8];
        vcpu.get_one_reg(self.0, &mut bytes).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    fn set(self, vcpu: &VcpuFd, value: u64) -> Result<(), HvError> {
        vcpu.set_one_reg(self.0, &value.to_le_bytes())
            .map(drop)
            .map_err(|e| HvError::new(format!("set core register {:#x}", self.0), e))
    }
}

/// Registers at the kernel's entry: the MMU is off and interrupts are masked already.
///
/// AArch64: `Documentation/arch/arm64/booting.rst`; AArch32: `Documentation/arch/arm/booting.rst`, where
/// the machine number of all ones says that the device tree counts.
fn boot_registers(guest: GuestMode, entry: u64, dtb: u64) -> [(CoreReg, u64); 5] {
    let (x0, x1, x2, mode) = match guest {
        GuestMode::Aarch64 => (dtb, 0, 0, PSR_D_BIT | PSR_MODE_EL1h),
        GuestMode::Aarch32 => (0, u64::from(u32::MAX), dtb, AARCH32_MODE_SVC),
    };
    [
        (CoreReg::PSTATE, u64::from(PSR_A_BIT | PSR_I_BIT | PSR_F_BIT | mode)),
        (CoreReg::PC, entry),
        (CoreReg::x(0), x0),
        (CoreReg::x(1), x1),
        (CoreReg::x(2), x2),
    ]
}

/// Puts `vcpu` at the kernel's entry.
pub(crate) fn set_boot(
    vcpu: &VcpuFd,
    guest: GuestMode,
    entry: u64,
    dtb: u64,
) -> Result<(), HvError> {
    boot_registers(guest, entry, dtb)
        .into_iter()
        .try_for_each(|(register, value)| register.set(vcpu, value))
}

/// The registers as one line of text, for whoever has to find out why a guest died.
pub(crate) fn describe(vcpu: &VcpuFd) -> String {
    let mut text = String::new();
    let named = [("pc".into(), CoreReg::PC), ("pstate".into(), CoreReg::PSTATE)];
    let general = (0..31).map(|n| (format!("x{n}"), CoreReg::x(n)));
    for (name, register) in named.into_iter().chain(general) {
        let value = register.get(vcpu);
        let value = value.map_or("?".into(), |value| format!("{value:#x}"));
        let gap = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{gap}{name}={value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_those_of_the_kernels_documentation() {
        // KVM API 4.68: X0 0x6030 0000 0010 0000, X30 …003c, PC …0040, PSTATE …0042.
        assert_eq!(CoreReg::x(0).0, 0x6030_0000_0010_0000);
        assert_eq!(CoreReg::x(30).0, 0x6030_0000_0010_003c);
        assert_eq!(CoreReg::PC.0, 0x6030_0000_0010_0040);
        assert_eq!(CoreReg::PSTATE.0, 0x6030_0000_0010_0042);
    }

    #[test]
    fn both_states_boot_privileged_and_masked() {
        let pstate = |guest| boot_registers(guest, 0, 0)[0].1;
        assert_eq!(pstate(GuestMode::Aarch64), 0x3c5);
        assert_eq!(pstate(GuestMode::Aarch32), 0x1d3);
    }
}
