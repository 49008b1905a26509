//! The registers of the legacy interface (VIRTIO 1.4 §4.2.4).
//!
//! * A queue is one piece from the page QueuePFN on, and in use as long as that is not 0.
//! * Without FEATURES_OK, what was not offered is not taken, and no driver is refused. The features hold
//!   from the device's start on.
//! * Drivers use the device before DRIVER_OK, and wait for its answer (§3.1.2): it starts as soon as all its
//!   queues are there, and with DRIVER_OK at the latest.

use cubie_virtq::{Features, QueueParams};
use virtio_bindings::virtio_config::VIRTIO_F_ANY_LAYOUT;
use virtio_bindings::virtio_mmio::*;

use super::MmioTransport;
use super::queues::QueueSetup;
use crate::status::{DRIVER, FAILED, NEEDS_RESET};

/// Bytes of a page, and of what a used ring is aligned to, before the driver says otherwise (§2.7.2).
pub(super) const USUAL_PAGE: u32 = 4096;

/// What a legacy driver is offered of `features`. Our devices have always read chains of any layout, which
/// must be said to it (§6.3).
pub(super) fn legacy_features(features: Features) -> Features {
    Features(features.0 & 0xffff_ffff).with(Features::bit(VIRTIO_F_ANY_LAYOUT))
}

impl MmioTransport {
    /// The driver reads a register that only this interface has.
    pub(super) fn legacy_register(&self, offset: u32) -> u32 {
        let queue = self.setup.queue().filter(|queue| queue.is_ready());
        match (offset, queue) {
            (VIRTIO_MMIO_QUEUE_PFN, Some(queue)) => {
                (queue.params.desc / u64::from(self.setup.guest_page_size)) as u32
            }
            _ => 0,
        }
    }

    /// The driver writes such a register.
    pub(super) fn set_legacy_register(&mut self, offset: u32, value: u32) {
        if self.line.status() & FAILED != 0 {
            return;
        }
        let in_use = self.setup.queue().is_some_and(QueueSetup::is_ready);
        match offset {
            VIRTIO_MMIO_DRIVER_FEATURES => self.set_legacy_features(value),
            VIRTIO_MMIO_GUEST_PAGE_SIZE => self.set_guest_page_size(value),
            VIRTIO_MMIO_QUEUE_PFN if in_use && value == 0 => self.reset_queue(),
            // A queue in use stays where it is.
            _ if in_use => {}
            VIRTIO_MMIO_QUEUE_PFN if value != 0 => self.set_queue_page(value),
            _ => {
                if let Some(queue) = self.setup.queue_mut() {
                    set_shape(queue, offset, value);
                }
            }
        }
    }

    fn set_legacy_features(&mut self, word: u32) {
        if !self.setup.live && self.setup.driver_features_select == 0 {
            self.setup.driver_features = self.offered().and(Features(word.into()));
        }
    }

    /// Counts for all queues, none of which may be in use.
    fn set_guest_page_size(&mut self, size: u32) {
        if size.is_power_of_two() && !self.setup.queues.iter().any(QueueSetup::is_ready) {
            self.setup.guest_page_size = size;
        }
    }

    fn set_queue_page(&mut self, page: u32) {
        let base = u64::from(page) * u64::from(self.setup.guest_page_size);
        let Some(queue) = self.setup.queue_mut() else {
            return;
        };
        queue.params = in_pages(queue.params.size, base, queue.align.into());
        self.enable_queue();
        let status = self.line.status();
        let complete = self.setup.queues.iter().all(QueueSetup::is_ready);
        if complete && !self.setup.live && status & DRIVER != 0 && status & NEEDS_RESET == 0 {
            self.start();
        }
    }

    /// DRIVER_OK, and the device runs already: its configuration may have changed without a word.
    pub(super) fn tell_silent_changes(&self) {
        if self.device.config().generation() != self.setup.generation {
            self.line.config_changed().trigger();
        }
    }
}

fn set_shape(queue: &mut QueueSetup, offset: u32, value: u32) {
    match offset {
        VIRTIO_MMIO_QUEUE_ALIGN if value.is_power_of_two() => queue.align = value,
        VIRTIO_MMIO_QUEUE_NUM => queue.place(offset, value),
        _ => {}
    }
}

/// A split ring of one piece, but for the gap before the used ring (§2.7.2).
fn in_pages(size: u16, base: u64, align: u64) -> QueueParams {
    let entries = u64::from(size);
    let driver = base + 16 * entries;
    let end = driver + 2 * (3 + entries);
    QueueParams { size, desc: base, driver, device: end.next_multiple_of(align) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_lies_where_linux_puts_it() {
        let params = in_pages(256, 0x5000, 4096);
        assert_eq!((params.desc, params.driver, params.device), (0x5000, 0x6000, 0x7000));
        let params = in_pages(8, 0x5000, 64);
        assert_eq!((params.desc, params.driver, params.device), (0x5000, 0x5080, 0x50c0));
    }

    #[test]
    fn no_place_that_a_driver_can_name_is_beyond_64_bits() {
        let page = u64::from(u32::MAX) * (1 << 31);
        let params = in_pages(u16::MAX, page, 1 << 31);
        assert!(params.desc < params.driver && params.driver < params.device);
    }
}
