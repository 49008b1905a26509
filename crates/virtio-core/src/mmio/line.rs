//! Why the device interrupts, and its status: the two words that workers and vCPUs share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cubie_vm_irq::{Interrupt, Trigger};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};

use crate::status::{DRIVER_OK, NEEDS_RESET};

struct Words {
    /// Device status (VIRTIO 1.4 §2.1).
    status: AtomicU32,
    /// InterruptStatus: what the driver has not acknowledged yet.
    pending: AtomicU32,
    interrupt: Interrupt,
}

impl Words {
    fn raise(&self, why: u32) {
        // The reason first: the driver reads it when the interrupt arrives.
        self.pending.fetch_or(why, Ordering::SeqCst);
        self.interrupt.trigger();
    }
}

/// The device's interrupt line with its reasons.
pub(crate) struct Line(Arc<Words>);

impl Line {
    pub(crate) fn new(interrupt: Interrupt) -> Self {
        let (status, pending) = (AtomicU32::new(0), AtomicU32::new(0));
        Self(Arc::new(Words { status, pending, interrupt }))
    }

    pub(crate) fn status(&self) -> u32 {
        self.0.status.load(Ordering::SeqCst)
    }

    /// Adds bits to the status; the device may add its own at the same time.
    pub(crate) fn add_status(&self, bits: u32) {
        self.0.status.fetch_or(bits, Ordering::SeqCst);
    }

    pub(crate) fn pending(&self) -> u32 {
        self.0.pending.load(Ordering::SeqCst)
    }

    pub(crate) fn acknowledge(&self, bits: u32) {
        self.0.pending.fetch_and(!bits, Ordering::SeqCst);
    }

    pub(crate) fn reset(&self) {
        self.0.status.store(0, Ordering::SeqCst);
        self.0.pending.store(0, Ordering::SeqCst);
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
        // No notification before DRIVER_OK (VIRTIO 1.4 §2.1.2): the driver has yet to read it all.
        if self.0.status.load(Ordering::SeqCst) & DRIVER_OK != 0 {
            self.0.raise(VIRTIO_MMIO_INT_CONFIG);
        }
    }
}

struct Fault(Arc<Words>);

impl Trigger for Fault {
    fn trigger(&self) {
        self.0.status.fetch_or(NEEDS_RESET, Ordering::SeqCst);
        ConfigChanged(Arc::clone(&self.0)).trigger();
    }
}
