//! The device's status, which the front-end writes and a broken queue changes.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use cubie_virtio_core::DeviceId;
use virtio_bindings::virtio_config::{VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET};

const FEATURES_OK: u8 = VIRTIO_CONFIG_S_FEATURES_OK as u8;
const NEEDS_RESET: u8 = VIRTIO_CONFIG_S_NEEDS_RESET as u8;

/// The status field (VIRTIO 1.4 §2.1): to vhost-user a note, since rings say themselves whether they are on.
#[derive(Debug)]
pub(crate) struct Status {
    device: DeviceId,
    bits: AtomicU8,
    complained: AtomicBool,
}

impl Status {
    pub(crate) fn new(device: DeviceId) -> Self {
        Self { device, bits: AtomicU8::new(0), complained: AtomicBool::new(false) }
    }

    pub(crate) fn bits(&self) -> u8 {
        self.bits.load(Ordering::SeqCst)
    }

    /// The front-end writes `bits`. The device's own stays, and features that no device of the standard's has
    /// are not accepted.
    pub(crate) fn set(&self, bits: u8, acceptable: bool) {
        let refused = if acceptable { 0 } else { FEATURES_OK };
        let kept = self.bits.fetch_and(NEEDS_RESET, Ordering::SeqCst) & NEEDS_RESET;
        self.bits.fetch_or(bits & !refused & !NEEDS_RESET | kept, Ordering::SeqCst);
    }

    pub(crate) fn reset(&self) {
        self.bits.store(0, Ordering::SeqCst);
    }

    /// The driver has broken something. The log hears of that once a front-end: it can do so again and again.
    pub(crate) fn fail(&self, what: &dyn std::fmt::Display, queue: u16) {
        self.bits.fetch_or(NEEDS_RESET, Ordering::SeqCst);
        if !self.complained.swap(true, Ordering::Relaxed) {
            let device = self.device.0;
            tracing::warn!(device, queue, %what, "the driver broke its queue: waiting for a reset");
        }
    }
}
