//! The virtio-mmio transport (VIRTIO 1.4 §4.2): the register file of one device, in both versions.
//!
//! There is one register file and two ways to serve it. *Trapped*, every access comes through the bus. With
//! a page of memory ([`MmioTransport::with_page`]) the driver reads that, without an exit, and only its
//! writes come here; what is in the page is what a trapped read would answer, by the same code. Either way
//! the machine may join two registers to eventfds: QueueNotify to those of [`MmioTransport::kicks`], so
//! that a kick leaves the guest without a visit here, and, with a page, the write of
//! [`PLAIN_ACK`] to [`INTERRUPT_ACK`] to one that nobody reads. Writes of [`DELAYABLE`] registers may come
//! late, with the next other access.

mod interface;
mod legacy;
mod line;
mod page;
mod queues;
mod registers;
mod save;
mod setup;
mod start;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use cubie_mmio_bus::{MmioDevice, RegisterPage};
use cubie_virtq::Features;
use cubie_vm_irq::Interrupt;
use virtio_bindings::virtio_mmio::*;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::VirtioDevice;
pub use interface::Interface;
use line::Line;
use page::ConfigPage;
use setup::Setup;

/// Bytes of the register file: 0x100 of registers, and as much of configuration space.
pub const MMIO_SIZE: u64 = 0x200;

/// Configuration space begins here; the registers are below.
const CONFIG: u64 = VIRTIO_MMIO_CONFIG as u64;

/// Offset of the register that a driver writes a queue's index to (VIRTIO 1.4 §4.2.2).
pub const QUEUE_NOTIFY: u64 = VIRTIO_MMIO_QUEUE_NOTIFY as u64;

/// Offset of the register that a driver acknowledges interrupts by (VIRTIO 1.4 §4.2.2).
pub const INTERRUPT_ACK: u64 = VIRTIO_MMIO_INTERRUPT_ACK as u64;

/// The acknowledgement of used buffers alone. A transport with a page has nothing to do for it.
pub const PLAIN_ACK: u32 = VIRTIO_MMIO_INT_VRING;

/// Registers whose writes may be delayed until the next other access, in order (VIRTIO 1.4 §4.2.2, §4.2.4):
/// nothing that the driver reads depends on them until it has written Status, QueueReady or QueuePFN. Of
/// Linux's nine writes for a queue, seven are here.
///
/// * DriverFeatures, DriverFeaturesSel, and the legacy GuestPageSize
/// * QueueNum, and the legacy QueueAlign
/// * the addresses of the queue's three parts
///
/// QueueSel is none of them: QueueNumMax and QueueReady are read right after it.
pub const DELAYABLE: [Range<u64>; 3] = [
    span(VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_MMIO_GUEST_PAGE_SIZE),
    span(VIRTIO_MMIO_QUEUE_NUM, VIRTIO_MMIO_QUEUE_ALIGN),
    span(VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_USED_HIGH),
];

/// The bytes of two registers and of all between them.
const fn span(first: u32, last: u32) -> Range<u64> {
    first as u64..last as u64 + size_of::<u32>() as u64
}

/// One device behind its registers.
pub struct MmioTransport {
    device: Box<dyn VirtioDevice>,
    interface: Interface,
    rings: Features,
    memory: Arc<GuestMemoryMmap>,
    line: Line,
    kicks: Vec<EventFd>,
    setup: Setup,
    page: Option<Arc<dyn RegisterPage>>,
    /// A device that the driver has started waits for [`MmioTransport::resume`].
    paused: bool,
}

impl MmioTransport {
    /// Plugs `device` in: its driver will find it in `memory`'s guest and be interrupted by
    /// `interrupt`, an edge-triggered line of its own.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        memory: Arc<GuestMemoryMmap>,
        interrupt: Interrupt,
    ) -> io::Result<Self> {
        let sizes = device.queue_sizes();
        let kicks = sizes.iter().map(|_| EventFd::new(EFD_NONBLOCK)).collect::<Result<_, _>>()?;
        let setup = Setup::new(sizes);
        let line = Line::new(interrupt);
        device.config().connect(Some(line.config_changed()));
        let (interface, rings) = (Interface::Modern, Features::RING);
        let (page, paused) = (None, false);
        Ok(Self { device, interface, rings, memory, line, kicks, setup, page, paused })
    }

    /// Shows the driver this interface instead of [`Interface::Modern`], before it has read anything.
    #[must_use]
    pub fn with_interface(self, interface: Interface) -> Self {
        Self { interface, ..self }.refreshed()
    }

    /// Offers the driver rings with these features instead of [`Features::RING`]: with
    /// [`Features::PACKED`] or [`Features::IN_ORDER`] too, or with fewer, such as without
    /// [`Features::RING_RESET`] for a device that must have all its queues whenever it runs.
    ///
    /// [`Features::NOTIFICATION_DATA`] has its price: a hypervisor that compares what is written to
    /// [`QUEUE_NOTIFY`] with a queue's index knows no kick with data, so that each comes here.
    /// The legacy interface has only what is among the first 32 features.
    #[must_use]
    pub fn with_rings(self, rings: Features) -> Self {
        Self { rings, ..self }.refreshed()
    }

    /// Lets the driver read the registers and the configuration space in `page`, before it has read
    /// anything. InterruptStatus then says «used buffers» from the start to the next reset, whether there
    /// are any or not, and the interrupt for them is the bare one that the transport was made with, which
    /// the kernel or another process may raise as well ([`Interrupt::offload`]).
    ///
    /// Not for drivers that read InterruptStatus until it is 0.
    #[must_use]
    pub fn with_page(mut self, page: Arc<dyn RegisterPage>) -> Self {
        self.line.share(Arc::clone(&page));
        self.device.config().mirror(ConfigPage::new(Arc::clone(&page)));
        self.page = Some(page);
        self.refreshed()
    }

    /// The eventfds by which the device is kicked, one a queue: for a hypervisor that answers writes to
    /// [`QUEUE_NOTIFY`] itself.
    pub fn kicks(&self) -> &[EventFd] {
        &self.kicks
    }

    /// Stops the device and takes it out; it can be plugged in elsewhere.
    pub fn unplug(mut self) -> Box<dyn VirtioDevice> {
        self.reset();
        self.device.config().connect(None);
        self.device
    }

    /// As if the driver had written 0 to Status (VIRTIO 1.4 §2.4): nothing is in flight afterwards.
    pub fn reset(&mut self) {
        let Self { device, line, setup, .. } = self;
        // First the device, which may still interrupt, then what it may have said.
        device.stop();
        line.reset();
        *setup = Setup::new(device.queue_sizes());
        self.refresh();
    }

    fn refreshed(self) -> Self {
        self.refresh();
        self
    }
}

impl MmioDevice for MmioTransport {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if offset >= CONFIG {
            self.device.config().read((offset - CONFIG) as usize, data);
        } else if data.len() == 4 && offset.is_multiple_of(4) {
            // Registers are 32 bits wide and accessed as such (VIRTIO 1.4 §4.2.2.2).
            data.copy_from_slice(&self.register(offset as u32).to_le_bytes());
        } else {
            data.fill(0);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if offset >= CONFIG {
            self.write_config(offset - CONFIG, data);
        } else if let Ok(value) = data.try_into()
            && offset.is_multiple_of(4)
        {
            self.set_register(offset as u32, u32::from_le_bytes(value));
            self.refresh();
        }
    }
}

#[cfg(test)]
mod tests;
