//! Why the device interrupts, and its status: what workers and vCPUs share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cubie_vm_irq::{Interrupt, Trigger};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};

use crate::status::{DRIVER_OK, NEEDS_RESET};

/// InterruptStatus lies above the status, which has eight bits (VIRTIO 1.4 §2.1).
const PENDING: u32 = 8;
const STATUS: u32 = (1 << PENDING) - 1;

struct Words {
    /// Device status (§2.1), and above it InterruptStatus: what the driver has not acknowledged yet. One
    /// word, so that nothing pends after a reset that was meant for the time before.
    both: AtomicU32,
    interrupt: Interrupt,
}

impl Words {
    fn raise(&self, why: u32) {
        // The reason first: the driver reads it when the interrupt arrives.
        self.both.fetch_or(why << PENDING, Ordering::SeqCst);
        self.interrupt.trigger();
    }
}

/// The device's interrupt line with its reasons.
pub(crate) struct Line(Arc<Words>);

impl Line {
    pub(crate) fn new(interrupt: Interrupt) -> Self {
        Self(Arc::new(Words { both: AtomicU32::new(0), interrupt }))
    }

    pub(crate) fn status(&self) -> u32 {
        self.0.both.load(Ordering::SeqCst) & STATUS
    }

    /// Adds bits to the status; the device may add its own at the same time.
    pub(crate) fn add_status(&self, bits: u32) {
        self.0.both.fetch_or(bits & STATUS, Ordering::SeqCst);
    }

    pub(crate) fn pending(&self) -> u32 {
        self.0.both.load(Ordering::SeqCst) >> PENDING
    }

    pub(crate) fn acknowledge(&self, bits: u32) {
        self.0.both.fetch_and(!(bits << PENDING), Ordering::SeqCst);
    }

    pub(crate) fn reset(&self) {
        self.0.both.store(0, Ordering::SeqCst);
    }

    /// Buffers were used.
    pub(crate) fn used_buffers(&self) -> Interrupt {
        Interrupt::new(UsedBuffers(Arc::clone(&self.0)))
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
        self.0.raise(VIRTIO_MMIO_INT_VRING);
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
            self.0.interrupt.trigger();
        }
    }
}

struct Fault(Arc<Words>);

impl Trigger for Fault {
    fn trigger(&self) {
        self.0.both.fetch_or(NEEDS_RESET, Ordering::SeqCst);
        ConfigChanged(Arc::clone(&self.0)).trigger();
    }
}
