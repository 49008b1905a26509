//! The registers, one arm each (VIRTIO 1.4 §4.2.2, table 4.1).

use cubie_virtq::Features;
use virtio_bindings::virtio_mmio::*;

use super::legacy::legacy_features;
use super::queues::QUEUE_RESET;
use super::setup::{feature_word, half, with_half};
use super::{Interface, MmioTransport};
use crate::status::{self, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, Step};

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VENDOR: u32 = u32::from_le_bytes(*b"CUBI");

impl MmioTransport {
    /// The driver reads a register. Free of side effects.
    pub(super) fn register(&self, offset: u32) -> u32 {
        let setup = &self.setup;
        match offset {
            VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            VIRTIO_MMIO_VERSION => self.interface.version(),
            VIRTIO_MMIO_DEVICE_ID => self.device.id().0,
            VIRTIO_MMIO_VENDOR_ID => VENDOR,
            VIRTIO_MMIO_DEVICE_FEATURES => {
                feature_word(self.offered(), setup.device_features_select)
            }
            VIRTIO_MMIO_QUEUE_NUM_MAX => setup.queue().map_or(0, |q| q.max.into()),
            VIRTIO_MMIO_INTERRUPT_STATUS => self.line.pending(),
            VIRTIO_MMIO_STATUS => self.line.status(),
            // A legacy driver does not know it, and does not look.
            VIRTIO_MMIO_CONFIG_GENERATION => self.device.config().generation(),
            _ => match self.interface {
                Interface::Modern => self.modern_register(offset),
                Interface::Legacy => self.legacy_register(offset),
            },
        }
    }

    fn modern_register(&self, offset: u32) -> u32 {
        match offset {
            VIRTIO_MMIO_QUEUE_READY => self.setup.queue().is_some_and(|q| q.is_ready()).into(),
            VIRTIO_MMIO_SHM_LEN_LOW => half(self.shared_memory().1, false),
            VIRTIO_MMIO_SHM_LEN_HIGH => half(self.shared_memory().1, true),
            VIRTIO_MMIO_SHM_BASE_LOW => half(self.shared_memory().0, false),
            VIRTIO_MMIO_SHM_BASE_HIGH => half(self.shared_memory().0, true),
            QUEUE_RESET => self.setup.queue().is_some_and(|q| q.is_resetting()).into(),
            _ => 0,
        }
    }

    /// The driver writes a register. What it may not say now is ignored.
    pub(super) fn set_register(&mut self, offset: u32, value: u32) {
        let setup = &mut self.setup;
        match (offset, self.interface) {
            (VIRTIO_MMIO_DEVICE_FEATURES_SEL, _) => setup.device_features_select = value,
            (VIRTIO_MMIO_DRIVER_FEATURES_SEL, _) => setup.driver_features_select = value,
            (VIRTIO_MMIO_DRIVER_FEATURES, Interface::Modern) => self.set_driver_features(value),
            (VIRTIO_MMIO_QUEUE_SEL, _) => setup.queue_select = value,
            (VIRTIO_MMIO_QUEUE_NOTIFY, _) => self.notify(value),
            (VIRTIO_MMIO_INTERRUPT_ACK, _) => self.line.acknowledge(value),
            (VIRTIO_MMIO_STATUS, _) => self.set_status(value),
            (VIRTIO_MMIO_SHM_SEL, Interface::Modern) => setup.shared_memory_select = value,
            (_, Interface::Modern) => self.set_queue_register(offset, value),
            (_, Interface::Legacy) => self.set_legacy_register(offset, value),
        }
    }

    /// What the driver can choose from: the device's features, the transport's and the rings'.
    pub(super) fn offered(&self) -> Features {
        let features = self.device.features().with(self.rings.and(self.device.rings()));
        match self.interface {
            Interface::Modern => features.with(Features::VERSION_1),
            Interface::Legacy => legacy_features(features),
        }
    }

    /// Base and length of the selected region; all ones where there is none (VIRTIO 1.4 §4.2.2).
    fn shared_memory(&self) -> (u64, u64) {
        let selected = self.setup.shared_memory_select;
        let region = self.device.shared_memory().iter().find(|r| u32::from(r.id) == selected);
        region.map_or((!0, !0), |region| (region.base.0, region.len))
    }

    fn set_driver_features(&mut self, word: u32) {
        let now = self.line.status();
        let chosen = &mut self.setup.driver_features.0;
        // Words beyond the second have no features that could be accepted.
        if now & DRIVER != 0 && now & FEATURES_OK == 0 && self.setup.driver_features_select < 2 {
            *chosen = with_half(*chosen, self.setup.driver_features_select == 1, word);
        }
    }

    /// The driver kicks a queue. With NOTIFICATION_DATA it also says how far it has got, which the ring
    /// does too (VIRTIO 1.4 §2.9).
    fn notify(&mut self, value: u32) {
        let with_data = self.setup.driver_features.has(Features::NOTIFICATION_DATA);
        let queue = if with_data { value & 0xffff } else { value };
        if let Some(kick) = self.kicks.get(queue as usize)
            && self.setup.live
        {
            // The counter cannot overflow: whoever waits for it reads it down or sees each edge.
            let _ = kick.write(1);
        }
    }

    fn set_status(&mut self, wanted: u32) {
        let (now, order) = (self.line.status(), self.interface.steps());
        match status::step(order, now, wanted) {
            Step::Reset => self.reset(),
            Step::Ignore => {}
            Step::Advance { status, negotiate: true, .. } if !self.acceptable() => {
                // The steps before it count (VIRTIO 1.4 §3.1.1).
                self.line.add_status(status & !(FEATURES_OK | DRIVER_OK));
            }
            Step::Advance { status, start, .. } => {
                self.line.add_status(status);
                match start {
                    true if self.setup.live => self.tell_silent_changes(),
                    true if now & NEEDS_RESET == 0 => self.start(),
                    _ => {}
                }
            }
        }
    }

    /// Can the device work with what the driver has chosen?
    fn acceptable(&self) -> bool {
        let chosen = self.setup.driver_features;
        self.offered().has(chosen) && chosen.has(Features::VERSION_1)
    }

    /// The driver writes to the configuration space: what lies within it reaches the device.
    pub(super) fn write_config(&mut self, offset: u64, data: &[u8]) {
        let len = self.device.config().len();
        if let Ok(offset) = usize::try_from(offset)
            && let Some(room @ 1..) = len.checked_sub(offset)
        {
            self.device.write_config(offset, &data[..data.len().min(room)]);
        }
    }
}
