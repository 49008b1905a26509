//! The registers, one arm each (VIRTIO 1.4 §4.2.2, table 4.1).

use cubie_virtq::{Features, QueueResources, QueueState};
use virtio_bindings::virtio_mmio::*;

use super::MmioTransport;
use super::setup::{feature_word, with_half};
use crate::device::Queues;
use crate::status::{self, DRIVER, DRIVER_OK, FAILED, FEATURES_OK, Step};

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"CUBI");
/// What the shared-memory registers read as where there is none (VIRTIO 1.4 §4.2.2.1).
const NO_SHARED_MEMORY: u32 = !0;

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
            VIRTIO_MMIO_QUEUE_READY => setup.queue().is_some_and(|q| q.ready).into(),
            VIRTIO_MMIO_INTERRUPT_STATUS => self.line.pending(),
            VIRTIO_MMIO_STATUS => self.line.status(),
            VIRTIO_MMIO_SHM_LEN_LOW
            | VIRTIO_MMIO_SHM_LEN_HIGH
            | VIRTIO_MMIO_SHM_BASE_LOW
            | VIRTIO_MMIO_SHM_BASE_HIGH => NO_SHARED_MEMORY,
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
            VIRTIO_MMIO_QUEUE_NOTIFY => self.notify(value),
            VIRTIO_MMIO_INTERRUPT_ACK => self.line.acknowledge(value),
            VIRTIO_MMIO_STATUS => self.set_status(value),
            _ => self.set_queue_register(offset, value),
        }
    }

    /// A register of the selected queue: writable between FEATURES_OK and DRIVER_OK.
    fn set_queue_register(&mut self, offset: u32, value: u32) {
        let now = self.line.status();
        let Some(queue) = self.setup.queue_mut() else {
            return;
        };
        if now & FEATURES_OK == 0 || now & (DRIVER_OK | FAILED) != 0 {
            return;
        }
        let params = &mut queue.params;
        let (address, high) = match offset {
            VIRTIO_MMIO_QUEUE_READY => {
                queue.ready = value == 1;
                return;
            }
            // A live queue stays where it is (VIRTIO 1.4 §4.2.2.2).
            _ if queue.ready => return,
            VIRTIO_MMIO_QUEUE_NUM => {
                if let Some(size) = u16::try_from(value).ok().filter(|size| *size <= queue.max) {
                    params.size = size;
                }
                return;
            }
            VIRTIO_MMIO_QUEUE_DESC_LOW => (&mut params.desc, false),
            VIRTIO_MMIO_QUEUE_DESC_HIGH => (&mut params.desc, true),
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => (&mut params.driver, false),
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => (&mut params.driver, true),
            VIRTIO_MMIO_QUEUE_USED_LOW => (&mut params.device, false),
            VIRTIO_MMIO_QUEUE_USED_HIGH => (&mut params.device, true),
            _ => return,
        };
        *address = with_half(*address, high, value);
    }

    /// What the driver can choose from: the device's features, the transport's and the rings'.
    fn offered(&self) -> Features {
        self.device.features().with(Features::VERSION_1).with(self.rings)
    }

    fn set_driver_features(&mut self, word: u32) {
        let now = self.line.status();
        let chosen = &mut self.setup.driver_features.0;
        // Words beyond the second have no features that could be accepted.
        if now & DRIVER != 0 && now & FEATURES_OK == 0 && self.setup.driver_features_select < 2 {
            *chosen = with_half(*chosen, self.setup.driver_features_select == 1, word);
        }
    }

    fn notify(&mut self, queue: u32) {
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
            Step::Advance { negotiate: true, .. } if !self.acceptable() => {}
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

    fn start(&mut self) {
        let result = self
            .resources()
            .map_err(Into::into)
            .and_then(|queues| self.device.start(self.setup.driver_features, queues));
        if let Err(error) = result {
            let device = self.device.id().0;
            if !std::mem::replace(&mut self.complained, true) {
                tracing::warn!(device, %error, "the device does not start: waiting for a reset");
            }
            self.line.fault().trigger();
        }
    }

    fn resources(&self) -> std::io::Result<Queues> {
        let queues = self.setup.queues.iter().zip(&self.kicks).zip(0..);
        let ready = queues.filter(|((queue, _), _)| queue.ready);
        let resources = ready.map(|((queue, kick), index)| {
            Ok(QueueResources {
                index,
                params: queue.params,
                state: QueueState::fresh(self.setup.driver_features),
                features: self.setup.driver_features,
                kick: kick.try_clone()?,
                interrupt: self.line.used_buffers(),
                fault: self.line.fault(),
                memory: self.memory.clone(),
            })
        });
        resources.collect::<std::io::Result<Vec<_>>>().map(Queues::new)
    }
}
