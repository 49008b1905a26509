//! What may change while a disk runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What may change while a disk runs, of which its workers look before each request.
#[derive(Debug)]
pub(crate) struct Terms {
    size: AtomicU64,
    writeback: AtomicBool,
}

impl Terms {
    pub(crate) fn new(size: u64, writeback: bool) -> Self {
        Self { size: size.into(), writeback: writeback.into() }
    }

    /// Bytes of the disk.
    pub(crate) fn size(&self) -> u64 {
        // Nothing else is read by it. A driver that knows of a change has been told through a lock, and tells
        // the worker by its ring.
        self.size.load(Ordering::Relaxed)
    }

    pub(crate) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Relaxed);
    }

    /// Whether a write may be answered before it is on stable storage.
    pub(crate) fn writeback(&self) -> bool {
        self.writeback.load(Ordering::Relaxed)
    }

    pub(crate) fn set_writeback(&self, writeback: bool) {
        self.writeback.store(writeback, Ordering::Relaxed);
    }
}
