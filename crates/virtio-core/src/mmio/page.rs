//! The registers as the driver reads them in memory.
//!
//! Each word has one writer at a time: InterruptStatus and Status are the [line's](super::line), which any
//! thread may change; the configuration space and its generation are its [`Config`](crate::Config)'s; the
//! rest changes only by the driver's own writes, and is stored before the write's exit ends.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cubie_mmio_bus::RegisterPage;
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG_GENERATION, VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_STATUS,
};

use super::{CONFIG, MmioTransport};
use crate::config::Mirror;

const WORD: usize = size_of::<u32>();

/// The registers between those that have other writers.
const OURS: [Range<u32>; 3] = [
    0..VIRTIO_MMIO_INTERRUPT_STATUS,
    VIRTIO_MMIO_INTERRUPT_STATUS + 4..VIRTIO_MMIO_STATUS,
    VIRTIO_MMIO_STATUS + 4..VIRTIO_MMIO_CONFIG_GENERATION,
];

impl MmioTransport {
    /// Brings the page up to date with what the driver has written.
    pub(super) fn refresh(&self) {
        let Some(page) = &self.page else { return };
        for range in OURS {
            let first = range.start as usize;
            let words: Vec<_> = range.step_by(WORD).map(|offset| self.register(offset)).collect();
            page.store(first, &words);
        }
    }
}

/// The configuration space and its generation in the page.
pub(super) struct ConfigPage {
    page: Arc<dyn RegisterPage>,
    /// The log has been told that the hypervisor refused to hide or show the page.
    complained: AtomicBool,
}

impl ConfigPage {
    pub(super) fn new(page: Arc<dyn RegisterPage>) -> Self {
        Self { page, complained: AtomicBool::new(false) }
    }

    fn check(&self, result: io::Result<()>) {
        if let Err(error) = result
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "a page of registers stays as it is: a driver may read a mixture");
        }
    }
}

impl Mirror for ConfigPage {
    fn publish(&self, bytes: &[u8], generation: u32) {
        // A driver that reads the generation before and after cannot tell when both reads fall into one
        // change (VIRTIO 1.4 §2.5.1). Meanwhile its reads come through the bus, and wait for us there.
        self.check(self.page.hide());
        let there = bytes.len().min(self.page.size() - CONFIG as usize);
        let words: Vec<_> = bytes[..there].chunks(WORD).map(word).collect();
        self.page.store(CONFIG as usize, &words);
        self.page.store(VIRTIO_MMIO_CONFIG_GENERATION as usize, &[generation]);
        self.check(self.page.show());
    }
}

/// A word of the space; beyond its end reads zero.
fn word(bytes: &[u8]) -> u32 {
    let mut word = [0; WORD];
    word[..bytes.len()].copy_from_slice(bytes);
    u32::from_le_bytes(word)
}
