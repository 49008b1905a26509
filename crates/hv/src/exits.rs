//! How often vCPUs leave the guest.

use std::ops::Add;

use crate::HvError;

/// How often a vCPU has left the guest so far, as the hypervisor counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// For whatever reason.
    pub all: u64,
    /// Of these, for registers that user space answers.
    pub user_mmio: u64,
    /// Of these, for registers that the hypervisor itself answers: offloaded and coalesced writes, and those of
    /// the interrupt controller.
    pub kernel_mmio: u64,
    /// Of these, to wait for an interrupt.
    pub idle: u64,
}

impl Exits {
    /// What came since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            all: self.all.wrapping_sub(earlier.all),
            user_mmio: self.user_mmio.wrapping_sub(earlier.user_mmio),
            kernel_mmio: self.kernel_mmio.wrapping_sub(earlier.kernel_mmio),
            idle: self.idle.wrapping_sub(earlier.idle),
        }
    }
}

impl Add for Exits {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            all: self.all + other.all,
            user_mmio: self.user_mmio + other.user_mmio,
            kernel_mmio: self.kernel_mmio + other.kernel_mmio,
            idle: self.idle + other.idle,
        }
    }
}

/// Tells the exits of one vCPU, to any thread and at any time. It may outlive the vCPU, and then says what it
/// was at its end.
pub trait ExitCounter: Send + Sync + 'static {
    /// What was counted so far.
    fn exits(&self) -> Result<Exits, HvError>;
}
