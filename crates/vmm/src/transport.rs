//! Virtio devices and their places: registers on the bus, kicks and interrupts in the hypervisor.

use std::sync::{Arc, Mutex};

use cubie_hv::{HvError, Vm};
use cubie_mmio_bus::{Bus, RegisterPage};
use cubie_virtio_core::{
    DELAYABLE, Features, INTERRUPT_ACK, Interface, MMIO_SIZE, MmioTransport, PLAIN_ACK,
    QUEUE_NOTIFY, VirtioDevice,
};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::MachineError;
use crate::fdt::Peripheral;

/// How a driver reaches a virtio device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// The register file's layout. [`Interface::Legacy`] has split rings only.
    pub interface: Interface,
    /// What the rings can do, for the driver to choose from: [`Features::RING`], or with
    /// [`Features::PACKED`] too.
    pub rings: Features,
    /// How the registers are read.
    pub registers: Registers,
}

impl Default for Transport {
    /// The modern interface, split rings, and a page of registers where there can be one.
    fn default() -> Self {
        Self {
            interface: Interface::Modern,
            rings: Features::RING,
            registers: Registers::SharedPage,
        }
    }
}

/// How a driver reads a device's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registers {
    /// As memory, without an exit; interrupts and their acknowledgements cost none either, and writes that
    /// may be delayed none of their own where the hypervisor coalesces them. Where it has no read-only
    /// memory for guests, as [`Registers::Trapped`].
    SharedPage,
    /// By an exit each. For drivers that read InterruptStatus until it is 0.
    Trapped,
}

/// A device and its place on the bus.
pub(crate) type Plugged = Arc<Mutex<MmioTransport>>;

/// Where devices are plugged in.
pub(crate) struct Board<'a, V> {
    vm: &'a V,
    bus: &'a Bus,
    memory: &'a Arc<GuestMemoryMmap>,
    /// Takes all plain acknowledgements; nobody reads it.
    acks: EventFd,
    /// The hypervisor has read-only pages, as far as is known.
    has_pages: bool,
}

impl<'a, V: Vm> Board<'a, V> {
    pub(crate) fn new(
        vm: &'a V,
        bus: &'a Bus,
        memory: &'a Arc<GuestMemoryMmap>,
    ) -> Result<Self, MachineError> {
        let acks = EventFd::new(EFD_NONBLOCK)
            .map_err(|source| MachineError::Host { what: "make an eventfd", source })?;
        Ok(Self { vm, bus, memory, acks, has_pages: true })
    }

    /// Puts `device`, the `slot`-th, behind registers at `place`, its line into the interrupt controller,
    /// and its kicks into the hypervisor.
    pub(crate) fn plug(
        &mut self,
        slot: usize,
        device: Box<dyn VirtioDevice>,
        place: &Peripheral,
        how: Transport,
    ) -> Result<Plugged, MachineError> {
        let line = self.vm.wire_spi(place.spi)?;
        let mut transport = MmioTransport::new(device, Arc::clone(self.memory), line)
            .map_err(|source| MachineError::Device { slot, source })?
            .with_interface(how.interface)
            .with_rings(how.rings);
        let base = place.registers.start;
        for (queue, kick) in (0..).zip(transport.kicks()) {
            self.vm.offload_write(base + QUEUE_NOTIFY, Some(queue), kick)?;
        }
        if how.registers == Registers::SharedPage
            && let Some(page) = self.page(base)?
        {
            self.vm.offload_write(base + INTERRUPT_ACK, Some(PLAIN_ACK), &self.acks)?;
            self.coalesce(base)?;
            transport = transport.with_page(page);
        }
        let transport = Arc::new(Mutex::new(transport));
        self.bus.insert(base, MMIO_SIZE, Arc::clone(&transport) as _)?;
        Ok(transport)
    }

    /// Delays writes to the registers at `base` that may come late, where the hypervisor can.
    fn coalesce(&self, base: u64) -> Result<(), HvError> {
        for registers in DELAYABLE {
            let len = registers.end - registers.start;
            match self.vm.coalesce_writes(base + registers.start, len) {
                Err(error) if error.is_unsupported() => {
                    tracing::debug!(%error, "a driver's set-up takes an exit for each write");
                    return Ok(());
                }
                coalesced => coalesced?,
            }
        }
        Ok(())
    }

    /// A page for the registers at `base`, where the hypervisor has such pages.
    fn page(&mut self, base: u64) -> Result<Option<Arc<dyn RegisterPage>>, HvError> {
        if !self.has_pages {
            return Ok(None);
        }
        match self.vm.map_readonly_page(base) {
            Ok(page) => Ok(Some(page)),
            Err(error) if error.is_unsupported() => {
                tracing::warn!(%error, "interrupts take two exits each: registers are trapped");
                self.has_pages = false;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
