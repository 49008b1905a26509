//! The registers, one arm each (VIRTIO 1.4 §4.2.2, table 4.1).

use cubie_virtq::Features;
use virtio_bindings::virtio_mmio::*;

use super::MmioTransport;
use super::queues::QUEUE_RESET;
use super::setup::{feature_word, half, with_half};
use crate::status::{self, DRIVER, DRIVER_OK, FEATURES_OK, Step};

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"CUBI");

impl MmioTransport {
    /// The driver reads a register. Free of side effects.
    pub(super) fn register(&self, offset: u32) -> u32 {
        let setup = &self.setup;
        match offset {
            VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            VIRTIO_MMIO_VERSION => VERSION,
            VIRTIO_MMIO_DEVICE_ID => self.device.id().0,
            VIRTIO_MMIO_VENDOR_ID => VENDOR,
            VIRTIO_MMIO_DEVICE_FEATURES => {
                feature_word(self.offered(), setup.device_features_select)
            }
            VIRTIO_MMIO_QUEUE_NUM_MAX => setup.queue().map_or(0, |q| q.max.into()),
            VIRTIO_MMIO_QUEUE_READY => setup.queue().is_some_and(|q| q.is_ready()).into(),
            VIRTIO_MMIO_INTERRUPT_STATUS => self.line.pending(),
            VIRTIO_MMIO_STATUS => self.line.status(),
            VIRTIO_MMIO_SHM_LEN_LOW => half(self.shared_memory().1, false),
            VIRTIO_MMIO_SHM_LEN_HIGH => half(self.shared_memory().1, true),
            VIRTIO_MMIO_SHM_BASE_LOW => half(self.shared_memory().0, false),
            VIRTIO_MMIO_SHM_BASE_HIGH => half(self.shared_memory().0, true),
            // A reset is over when the write that asks for it is.
            QUEUE_RESET => 0,
            VIRTIO_MMIO_CONFIG_GENERATION => self.device.config().generation(),
            _ => 0,
        }
    }

    /// The driver writes a register. What it may not say now is ignored.
    pub(super) fn set_register(&mut self, offset: u32, value: u32) {
        let setup = &mut self.setup;
        match offset {
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => setup.device_features_select = value,
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => setup.driver_features_select = value,
            VIRTIO_MMIO_DRIVER_FEATURES => self.set_driver_features(value),
            VIRTIO_MMIO_QUEUE_SEL => setup.queue_select = value,
            VIRTIO_MMIO_SHM_SEL => setup.shared_memory_select = value,
            VIRTIO_MMIO_QUEUE_NOTIFY => self.notify(value),
            VIRTIO_MMIO_INTERRUPT_ACK => self.line.acknowledge(value),
            VIRTIO_MMIO_STATUS => self.set_status(value),
            _ => self.set_queue_register(offset, value),
        }
    }

    /// What the driver can choose from: the device's features, the transport's and the rings'.
    fn offered(&self) -> Features {
        self.device.features().with(Features::VERSION_1).with(self.rings)
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
            && self.line.status() & DRIVER_OK != 0
        {
            // The counter cannot overflow: whoever waits for it reads it down or sees each edge.
            let _ = kick.write(1);
        }
    }

    fn set_status(&mut self, wanted: u32) {
        match status::step(self.line.status(), wanted) {
            Step::Reset => self.reset(),
            Step::Ignore => {}
            Step::Advance { status, negotiate: true, .. } if !self.acceptable() => {
                // The steps before it count (VIRTIO 1.4 §3.1.1).
                self.line.add_status(status & !(FEATURES_OK | DRIVER_OK));
            }
            Step::Advance { status, start, .. } => {
                self.line.add_status(status);
                if start {
                    self.start();
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
