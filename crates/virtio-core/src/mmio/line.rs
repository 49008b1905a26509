//! Why the device interrupts, and its status: what workers and vCPUs share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cubie_mmio_bus::RegisterPage;
use cubie_vm_irq::{Interrupt, Trigger};
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING, VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_STATUS,
};

use crate::status::{DRIVER_OK, NEEDS_RESET};

/// InterruptStatus lies above the status, which has eight bits (VIRTIO 1.4 §2.1).
const PENDING: u32 = 8;
const STATUS: u32 = (1 << PENDING) - 1;
const USED_BUFFERS: u32 = VIRTIO_MMIO_INT_VRING << PENDING;

struct Words {
    /// Device status (§2.1), and above it InterruptStatus: what the driver has not acknowledged yet. One
    /// word, so that nothing pends after a reset that was meant for the time before.
    both: AtomicU32,
    interrupt: Interrupt,
    /// Where the driver reads both.
    page: OnceLock<Arc<dyn RegisterPage>>,
    /// Held by whoever writes them there, so that the last one writes the latest.
    writing: Mutex<()>,
}

impl Words {
    /// Sets `bits`, and tells the driver's page.
    fn add(&self, bits: u32) {
        self.both.fetch_or(bits, Ordering::SeqCst);
        self.publish();
    }

    fn publish(&self) {
        if let Some(page) = self.page.get() {
            let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let both = self.both.load(Ordering::SeqCst);
            page.store(VIRTIO_MMIO_INTERRUPT_STATUS as usize, &[both >> PENDING]);
            page.store(VIRTIO_MMIO_STATUS as usize, &[both & STATUS]);
        }
    }
}

/// The device's interrupt line with its reasons.
///
/// When the driver reads them from a page, «used buffers» is set from the start to the next reset,
/// whether there are any or not: then neither the interrupt nor its acknowledgement has anything to say to
/// us, and both can be left to the hypervisor. A driver looks at its queues once too often at worst.
pub(crate) struct Line(Arc<Words>);

impl Line {
    pub(crate) fn new(interrupt: Interrupt) -> Self {
        Self(Arc::new(Words {
            both: AtomicU32::new(0),
            interrupt,
            page: OnceLock::new(),
            writing: Mutex::new(()),
        }))
    }

    /// From now on the driver reads from `page`; before it has read anything.
    pub(crate) fn share(&self, page: Arc<dyn RegisterPage>) {
        self.0.page.get_or_init(|| page);
        self.0.publish();
    }

    fn is_shared(&self) -> bool {
        self.0.page.get().is_some()
    }

    pub(crate) fn status(&self) -> u32 {
        self.0.both.load(Ordering::SeqCst) & STATUS
    }

    /// Adds bits to the status; the device may add its own at the same time.
    pub(crate) fn add_status(&self, bits: u32) {
        self.0.add(bits & STATUS);
    }

    /// The device is about to start, and will interrupt.
    pub(crate) fn expect_used_buffers(&self) {
        // The reason before the device can interrupt for it: that is an edge, and comes once.
        if self.is_shared() {
            self.0.add(USED_BUFFERS);
        }
    }

    pub(crate) fn pending(&self) -> u32 {
        self.0.both.load(Ordering::SeqCst) >> PENDING
    }

    pub(crate) fn acknowledge(&self, bits: u32) {
        let always = if self.is_shared() { VIRTIO_MMIO_INT_VRING } else { 0 };
        self.0.both.fetch_and(!((bits & !always) << PENDING), Ordering::SeqCst);
        self.0.publish();
    }

    pub(crate) fn reset(&self) {
        self.0.both.store(0, Ordering::SeqCst);
        self.0.publish();
    }

    /// Buffers were used.
    pub(crate) fn used_buffers(&self) -> Interrupt {
        match self.is_shared() {
            true => self.0.interrupt.clone(),
            false => Interrupt::new(UsedBuffers(Arc::clone(&self.0))),
        }
    }

    /// The configuration space has changed.
    pub(crate) fn config_changed(&self) -> Interrupt {
        Interrupt::new(ConfigChanged(Arc::clone(&self.0)))
    }

    /// The device cannot go on.
    pub(crate) fn fault(&self) -> Interrupt {
        Interrupt::new(Fault(Arc::clone(&self.0)))
    }
}

struct UsedBuffers(Arc<Words>);

impl Trigger for UsedBuffers {
    fn trigger(&self) {
        // The reason first: the driver reads it when the interrupt arrives.
        self.0.both.fetch_or(USED_BUFFERS, Ordering::SeqCst);
        self.0.interrupt.trigger();
    }
}

struct ConfigChanged(Arc<Words>);

impl Trigger for ConfigChanged {
    fn trigger(&self) {
        // No notification before DRIVER_OK (VIRTIO 1.4 §2.1.2): the driver has yet to read it all. The
        // driver may reset the device meanwhile.
        let raised = self.0.both.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |both| {
            (both & DRIVER_OK != 0).then_some(both | VIRTIO_MMIO_INT_CONFIG << PENDING)
        });
        if raised.is_ok() {
            self.0.publish();
            self.0.interrupt.trigger();
        }
    }
}

struct Fault(Arc<Words>);

impl Trigger for Fault {
    fn trigger(&self) {
        self.0.add(NEEDS_RESET);
        ConfigChanged(Arc::clone(&self.0)).trigger();
    }
}
