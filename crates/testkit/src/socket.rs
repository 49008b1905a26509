//! A place for a device, before it is plugged in.

use std::sync::Arc;

use cubie_mmio_bus::MemoryPage;
use cubie_virtio_core::{Features, Interface, MmioTransport, VirtioDevice};
use cubie_vm_irq::Interrupt;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::registers::PAGE;
use crate::{Guest, Slot};

/// What a driver can choose from for its rings: all that there is.
const RINGS: Features = Features::RING.with(Features::PACKED).with(Features::IN_ORDER);

/// Decides how a device will be driven, see [`Guest::socket`].
///
/// Unless told otherwise it has the registers of the standard's version 1, in a page: then each read
/// comes from the page and is compared with the answer of the registers themselves, and one that
/// stays different ends the test.
#[derive(Clone, Debug)]
#[must_use = "nothing is plugged in yet"]
pub struct Socket {
    pub(crate) guest: Guest,
    pub(crate) interface: Interface,
    pub(crate) trapped: bool,
    pub(crate) recorded: bool,
}

impl Socket {
    pub(crate) fn new(guest: Guest) -> Self {
        Self { guest, interface: Interface::Modern, trapped: false, recorded: false }
    }

    /// Reads go to the registers, as in a machine without memory that is read-only for its guest.
    /// InterruptStatus then says «used buffers» only when there are some.
    pub fn trapped(self) -> Self {
        Self { trapped: true, ..self }
    }

    /// The registers are those from before version 1 of the standard.
    pub fn legacy(self) -> Self {
        Self { interface: Interface::Legacy, ..self }
    }

    /// What the device and its drivers do to each other is written down, for [`Slot::transcript`] and
    /// [`Slot::recording`]. It stays in memory until the guest is gone.
    pub fn recorded(self) -> Self {
        Self { recorded: true, ..self }
    }

    /// Plugs `device` in. Its driver is made of [`Slot::transport`].
    pub fn plug(self, device: Box<dyn VirtioDevice>) -> Slot {
        Slot::new(self, device)
    }

    /// `device` behind its registers, and the page where a driver reads them, unless they are trapped.
    pub(crate) fn wire(
        &self,
        device: Box<dyn VirtioDevice>,
        memory: Arc<GuestMemoryMmap>,
        line: &EventFd,
    ) -> (MmioTransport, Option<Arc<MemoryPage>>) {
        let interrupt = Interrupt::new(line.try_clone().expect("the same eventfd"));
        let transport = MmioTransport::new(device, memory, interrupt)
            .expect("eventfds for the kicks")
            .with_interface(self.interface)
            .with_rings(RINGS);
        if self.trapped {
            return (transport, None);
        }
        let page = Arc::new(MemoryPage::new(PAGE));
        (transport.with_page(page.clone()), Some(page))
    }
}
