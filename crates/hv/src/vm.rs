//! The machine's side.

use std::sync::Arc;

use cubie_mmio_bus::RegisterPage;
use cubie_vm_irq::{Interrupt, Spi};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::{HvError, Start, Vcpu};

/// Interrupt controller that the guest sees, with the guest addresses of its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gic {
    /// GICv2 (ARM IHI 0048B): one distributor, one CPU interface for all CPUs.
    V2 {
        /// Distributor, 4 KiB.
        distributor: u64,
        /// CPU interface, 8 KiB.
        cpu_interface: u64,
    },
}

/// A virtual machine. Methods are called in the order that the crate's page lists.
pub trait Vm: Send {
    /// The vCPU of this hypervisor.
    type Vcpu: Vcpu;

    /// Bits of a guest-physical address: memory lies below 2 to the power of this.
    fn ipa_bits(&self) -> u32;

    /// Gives the guest its RAM, once. The hypervisor keeps the mapping alive as long as it needs it.
    fn map_memory(&mut self, memory: &GuestMemoryMmap) -> Result<(), HvError>;

    /// Makes vCPU `index` (from 0, without gaps), which will start as `start` says.
    fn create_vcpu(&mut self, index: u8, start: Start) -> Result<Self::Vcpu, HvError>;

    /// Completes the interrupt controller. After the last vCPU, before the first interrupt.
    fn start_interrupts(&mut self) -> Result<(), HvError>;

    /// The interrupt controller, as the guest's device tree must describe it.
    fn gic(&self) -> Gic;

    /// A line into the interrupt controller, edge triggered: each trigger is one interrupt.
    fn wire_spi(&self, spi: Spi) -> Result<Interrupt, HvError>;

    /// From now on the hypervisor itself answers guest writes to `address` (only 4-byte ones of `value`,
    /// if given) by raising `eventfd`; no vCPU leaves for them.
    fn offload_write(
        &self,
        address: u64,
        value: Option<u32>,
        eventfd: &EventFd,
    ) -> Result<(), HvError>;

    /// From now on stores that lie in the `len` bytes at `address` may be delayed: they come out of
    /// [`Vcpu::run`] in order, and no later than the next other exit of any vCPU (an offloaded write is
    /// none). For registers that mean nothing before another one is written.
    ///
    /// # Errors
    /// [`HvError::is_unsupported`] where stores are never delayed (so says the method as it stands here):
    /// then each is an exit.
    fn coalesce_writes(&self, address: u64, len: u64) -> Result<(), HvError> {
        Err(HvError::unsupported(format!("coalesce writes to {len} bytes at {address:#x}")))
    }

    /// Maps a fresh page of zeros at `address`, a multiple of the host's page size: the guest's loads
    /// from it cost no exit, its stores come out as before or raise the eventfd of an offload. The guest
    /// has the page until the last handle is dropped, then its loads come out again.
    ///
    /// # Errors
    /// [`HvError::is_unsupported`] where there are no such pages (so says the method as it stands here):
    /// trapped accesses do the same, slower.
    fn map_readonly_page(&self, address: u64) -> Result<Arc<dyn RegisterPage>, HvError> {
        Err(HvError::unsupported(format!("map a read-only page at {address:#x}")))
    }
}
