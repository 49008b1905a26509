//! Why the device interrupts, and its status: what workers and vCPUs share.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cubie_mmio_bus::RegisterPage;
use cubie_virtq::OnFault;
use cubie_vm_irq::{Interrupt, Trigger};
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING, VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_STATUS,
};

use crate::status::{DRIVER_OK, NEEDS_RESET};
use crate::{DeviceId, StartError};

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
    /// Held by whoever changes them, but for used buffers without a page: what is in the page is the latest.
    turn: Mutex<()>,
    complained: AtomicBool,
}

impl Words {
    /// Changes both words and brings the page up to date, in its turn. Returns whose turn it is, for what has
    /// to come before the next change.
    fn change(&self, change: impl FnOnce(&AtomicU32)) -> MutexGuard<'_, ()> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        change(&self.both);
        if let Some(page) = self.page.get() {
            let both = self.both.load(Ordering::SeqCst);
            page.store(VIRTIO_MMIO_INTERRUPT_STATUS as usize, &[both >> PENDING]);
            page.store(VIRTIO_MMIO_STATUS as usize, &[both & STATUS]);
        }
        turn
    }

    fn add(&self, bits: u32) {
        drop(self.change(|both| _ = both.fetch_or(bits, Ordering::SeqCst)));
    }

    /// The configuration has changed. No notification before DRIVER_OK, when the driver has yet to read it
    /// all, and none after a reset, which waits for its turn (VIRTIO 1.4 §2.1.2, §2.4.1).
    fn change_config(&self) {
        let mut running = false;
        let _turn = self.change(|both| {
            running = both.load(Ordering::SeqCst) & DRIVER_OK != 0;
            if running {
                both.fetch_or(VIRTIO_MMIO_INT_CONFIG << PENDING, Ordering::SeqCst);
            }
        });
        if running {
            self.interrupt.trigger();
        }
    }

    fn fail(&self) {
        self.add(NEEDS_RESET);
        self.change_config();
    }

    /// Whether the log should hear that the device does not work with its driver, which can make that
    /// happen as often as it likes: true once.
    fn is_news(&self) -> bool {
        !self.complained.swap(true, Ordering::Relaxed)
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
            turn: Mutex::new(()),
            complained: AtomicBool::new(false),
        }))
    }

    /// From now on the driver reads from `page`; before it has read anything.
    pub(crate) fn share(&self, page: Arc<dyn RegisterPage>) {
        self.0.page.get_or_init(|| page);
        drop(self.0.change(|_| ()));
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

    /// Status and InterruptStatus of the same moment.
    pub(crate) fn save(&self) -> (u32, u32) {
        let both = self.0.both.load(Ordering::SeqCst);
        (both & STATUS, both >> PENDING)
    }

    /// Both as [`Line::save`] returned them. Nothing is raised yet.
    pub(crate) fn restore(&self, status: u32, pending: u32) {
        let saved = pending << PENDING | status & STATUS;
        drop(self.0.change(|both| both.store(saved, Ordering::SeqCst)));
    }

    /// Interrupts once more for what pends: the edge may be lost with the machine that was to see it.
    pub(crate) fn raise_again(&self) {
        if self.pending() != 0 {
            self.0.interrupt.trigger();
        }
    }

    pub(crate) fn acknowledge(&self, bits: u32) {
        let always = if self.is_shared() { VIRTIO_MMIO_INT_VRING } else { 0 };
        let left = !((bits & !always) << PENDING);
        drop(self.0.change(|both| _ = both.fetch_and(left, Ordering::SeqCst)));
    }

    pub(crate) fn reset(&self) {
        drop(self.0.change(|both| both.store(0, Ordering::SeqCst)));
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

    /// The device cannot start as its driver wants it.
    pub(crate) fn fail(&self, device: DeviceId, error: &StartError) {
        if self.0.is_news() {
            tracing::warn!(device = device.0, %error, "the device does not start: waiting for a reset");
        }
        self.0.fail();
    }

    /// The device cannot go on with what its driver has put into a queue, which is `broken` from then on.
    pub(crate) fn on_fault(&self, device: DeviceId, broken: &Arc<AtomicBool>) -> OnFault {
        let (words, broken) = (Arc::clone(&self.0), Arc::clone(broken));
        OnFault::new(move |queue, error| {
            broken.store(true, Ordering::SeqCst);
            if words.is_news() {
                let device = device.0;
                tracing::warn!(device, queue, %error, "the driver broke its queue: waiting for a reset");
            }
            words.fail();
        })
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
        self.0.change_config();
    }
}
