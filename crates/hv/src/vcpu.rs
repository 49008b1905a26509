//! The processor's side.

use std::sync::Arc;

use crate::{ExitCounter, HvError};

/// How a vCPU begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the kernel's entry, with the device tree where the boot protocol wants it.
    At {
        /// Guest-physical address of the first instruction.
        entry: u64,
        /// Guest-physical address of the device tree.
        dtb: u64,
    },
    /// Powered off, until the guest turns it on (PSCI `CPU_ON`).
    Off,
}

/// Why a vCPU came back.
#[derive(Debug, PartialEq, Eq)]
pub enum Exit<'a> {
    /// The guest reads `data.len()` bytes (1 to 8) at `address`: fill `data`, then run again.
    Read {
        /// Guest-physical address.
        address: u64,
        /// What the guest will get.
        data: &'a mut [u8],
    },
    /// The guest wrote `data` (1 to 8 bytes) at `address`.
    Write {
        /// Guest-physical address.
        address: u64,
        /// What the guest gave.
        data: &'a [u8],
    },
    /// The guest turned the machine off (PSCI `SYSTEM_OFF`).
    Off,
    /// The guest asked for a restart (PSCI `SYSTEM_RESET`).
    Reset,
    /// The guest says that it has crashed, or did what no hypervisor can go on from.
    Crash(String),
    /// A [`Kick`] or a signal: nothing happened to the guest.
    Kicked,
}

/// One virtual CPU, run by one thread.
pub trait Vcpu: Send {
    /// The handle that gets this vCPU out of [`Vcpu::run`].
    type Kick: Kick;

    /// Runs the guest until something needs attention. Finishes the last [`Exit::Read`] first.
    ///
    /// Before it returns, `late` has got the address and the data (1 to 8 bytes) of each store that was
    /// delayed until then ([`Vm::coalesce_writes`](crate::Vm::coalesce_writes)), whichever vCPU's it is:
    /// each once, in order. Only one vCPU's `late` runs at a time, and the others wait if they have come
    /// out after such a store: `late` must not run a vCPU.
    fn run(&mut self, late: &mut dyn FnMut(u64, &[u8])) -> Result<Exit<'_>, HvError>;

    /// A handle for other threads; it may outlive the vCPU and then does nothing.
    fn kick(&self) -> Self::Kick;

    /// Who tells how often this vCPU leaves the guest.
    ///
    /// # Errors
    /// [`HvError::is_unsupported`] where nobody counts (so says the method as it stands here).
    fn exit_counter(&mut self) -> Result<Arc<dyn ExitCounter>, HvError> {
        Err(HvError::unsupported("count a vCPU's exits"))
    }
}

/// Gets a vCPU out of [`Vcpu::run`], from any thread.
pub trait Kick: Send + Sync + 'static {
    /// The `run` in progress, or the next one, returns [`Exit::Kicked`]. Never lost.
    fn kick(&self);
}
