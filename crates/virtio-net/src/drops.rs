//! What did not get through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of frames that a card dropped since it was made. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Drops(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    transmit: AtomicU64,
    receive: AtomicU64,
}

impl Drops {
    /// Frames from the guest: of an impossible length, with a header that was not negotiated, or
    /// refused by the host.
    pub fn transmit(&self) -> u64 {
        self.0.transmit.load(Ordering::Relaxed)
    }

    /// Frames from the host: longer than the guest's buffer, or of a kind that it has not negotiated.
    pub fn receive(&self) -> u64 {
        self.0.receive.load(Ordering::Relaxed)
    }

    pub(crate) fn count_transmit(&self) {
        self.0.transmit.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_receive(&self) {
        self.0.receive.fetch_add(1, Ordering::Relaxed);
    }
}
