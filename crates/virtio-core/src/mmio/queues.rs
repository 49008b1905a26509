//! The queues' registers: where each lies, and whether the device serves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cubie_virtq::{Features, QueueParams, QueueState};
use virtio_bindings::virtio_mmio::*;

use super::MmioTransport;
use super::legacy::USUAL_PAGE;
use super::setup::with_half;
use crate::status::{DRIVER_OK, FAILED, FEATURES_OK};
use crate::{QueueStage, SavedQueue};

/// QueueReset, which virtio-bindings does not know yet (VIRTIO 1.4 §4.2.2).
pub(crate) const QUEUE_RESET: u32 = 0xc0;

/// One queue as far as the driver has set it up.
pub(crate) struct QueueSetup {
    pub(crate) max: u16,
    stage: QueueStage,
    /// Its reset is going on, as another vCPU can read in a page.
    resetting: bool,
    pub(crate) params: QueueParams,
    /// What a legacy driver has the used ring at a multiple of: bytes, a power of two.
    pub(crate) align: u32,
    /// How far it has got: of a queue that is ready, and not served at the moment.
    pub(crate) state: QueueState,
    /// The driver has broken it, as the device's thread says. A queue that was reset has a new one: nobody
    /// speaks of it who knew it before.
    pub(crate) broken: Arc<AtomicBool>,
}

impl QueueSetup {
    pub(crate) fn new(max: u16) -> Self {
        let params = QueueParams { size: max, ..QueueParams::default() };
        let (stage, state, broken) = (QueueStage::Unused, QueueState::default(), Arc::default());
        Self { max, stage, resetting: false, params, align: USUAL_PAGE, state, broken }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.stage == QueueStage::Ready && !self.resetting
    }

    pub(crate) fn is_resetting(&self) -> bool {
        self.resetting
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    /// The device looks at it, while it runs.
    pub(crate) fn is_served(&self) -> bool {
        self.is_ready() && !self.is_broken()
    }

    /// It is there, and empty for the device, until the driver sets it up anew: was reset, or is broken.
    /// What was found in a ring once is not forgotten when the device starts again.
    pub(crate) fn is_idle(&self) -> bool {
        self.stage == QueueStage::Reset || self.is_ready() && self.is_broken()
    }

    /// The driver writes one of the registers that say where it lies.
    pub(crate) fn place(&mut self, offset: u32, value: u32) {
        let params = &mut self.params;
        let (address, high) = match offset {
            VIRTIO_MMIO_QUEUE_NUM => {
                // What the ring cannot be, such as 0, its start will say.
                if let Some(size) = u16::try_from(value).ok().filter(|size| *size <= self.max) {
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
}

impl From<&QueueSetup> for SavedQueue {
    fn from(queue: &QueueSetup) -> Self {
        // Nobody saves in the middle of a reset.
        let QueueSetup { max, stage, resetting: _, params, align, state, broken: _ } = *queue;
        Self { max, stage, params, align, state, broken: queue.is_broken() }
    }
}

impl From<&SavedQueue> for QueueSetup {
    fn from(saved: &SavedQueue) -> Self {
        let SavedQueue { max, stage, params, align, state, broken } = *saved;
        let broken = Arc::new(AtomicBool::new(broken));
        Self { max, stage, resetting: false, params, align, state, broken }
    }
}

impl MmioTransport {
    /// The driver writes a register of the selected queue: between FEATURES_OK and DRIVER_OK, or when that
    /// queue was reset.
    pub(super) fn set_queue_register(&mut self, offset: u32, value: u32) {
        let now = self.line.status();
        let resets = self.setup.driver_features.has(Features::RING_RESET);
        let Some(queue) = self.setup.queue_mut() else {
            return;
        };
        if now & FEATURES_OK == 0 || now & FAILED != 0 {
            return;
        }
        let driven = now & DRIVER_OK != 0;
        match (queue.stage, offset) {
            (_, QUEUE_RESET) if value == 1 && resets => self.reset_queue(),
            (QueueStage::Unused, _) if driven => {}
            (QueueStage::Unused | QueueStage::Reset, VIRTIO_MMIO_QUEUE_READY) if value == 1 => {
                self.enable_queue();
            }
            (QueueStage::Unused | QueueStage::Reset, _) => queue.place(offset, value),
            (QueueStage::Ready, VIRTIO_MMIO_QUEUE_READY) if value == 0 && !driven => {
                queue.stage = QueueStage::Unused;
            }
            // So drivers take a queue back that know no RING_RESET (VIRTIO 1.4 §4.2.3.2).
            (QueueStage::Ready, VIRTIO_MMIO_QUEUE_READY) if value == 0 => self.reset_queue(),
            // A live queue stays where it is (VIRTIO 1.4 §4.2.2.2).
            (QueueStage::Ready, _) => {}
        }
    }

    /// The selected queue is the device's from now on, or from its start on.
    pub(super) fn enable_queue(&mut self) {
        let (live, state) = (self.setup.live, QueueState::fresh(self.setup.driver_features));
        if live {
            self.stop();
        }
        self.change_queue(|queue| (queue.stage, queue.state) = (QueueStage::Ready, state));
        if live {
            self.start();
        }
    }

    /// The selected queue is as after a reset of the device (VIRTIO 1.4 §2.6.1), and the others go on.
    pub(super) fn reset_queue(&mut self) {
        let live = self.setup.live;
        let stage = if live { QueueStage::Reset } else { QueueStage::Unused };
        if live {
            self.change_queue(|queue| queue.resetting = true);
            self.refresh();
            self.stop();
        }
        self.change_queue(|queue| *queue = QueueSetup { stage, ..QueueSetup::new(queue.max) });
        if live {
            self.start();
        }
    }

    fn change_queue(&mut self, change: impl FnOnce(&mut QueueSetup)) {
        if let Some(queue) = self.setup.queue_mut() {
            change(queue);
        }
    }
}
