//! The queues' registers: where each lies, and whether the device serves it.

use cubie_virtq::{Features, QueueParams, QueueState};
use virtio_bindings::virtio_mmio::*;

use super::MmioTransport;
use super::legacy::USUAL_PAGE;
use super::setup::with_half;
use crate::status::{DRIVER_OK, FAILED, FEATURES_OK};

/// QueueReset, which virtio-bindings does not know yet (VIRTIO 1.4 §4.2.2).
pub(crate) const QUEUE_RESET: u32 = 0xc0;

/// What the driver has made of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing yet: it can be set up before DRIVER_OK.
    Unused,
    /// Set up. The device serves it from DRIVER_OK on.
    Ready,
    /// Its reset is going on, as another vCPU can read in a page.
    Resetting,
    /// Reset by itself since the device was started: it can be set up anew at any time.
    Reset,
}

/// One queue as far as the driver has set it up.
pub(crate) struct QueueSetup {
    pub(crate) max: u16,
    stage: Stage,
    pub(crate) params: QueueParams,
    /// What a legacy driver has the used ring at a multiple of: bytes, a power of two.
    pub(crate) align: u32,
    /// How far it has got: of a queue that is ready, and not served at the moment.
    pub(crate) state: QueueState,
}

impl QueueSetup {
    pub(crate) fn new(max: u16) -> Self {
        let params = QueueParams { size: max, ..QueueParams::default() };
        let (stage, state) = (Stage::Unused, QueueState::default());
        Self { max, stage, params, align: USUAL_PAGE, state }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    pub(crate) fn is_resetting(&self) -> bool {
        self.stage == Stage::Resetting
    }

    pub(crate) fn is_in_reset(&self) -> bool {
        self.stage == Stage::Reset
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
            (Stage::Unused, _) if driven => {}
            (Stage::Unused | Stage::Reset, VIRTIO_MMIO_QUEUE_READY) if value == 1 => {
                self.enable_queue();
            }
            (Stage::Unused | Stage::Reset, _) => queue.place(offset, value),
            (Stage::Ready, VIRTIO_MMIO_QUEUE_READY) if value == 0 && !driven => {
                queue.stage = Stage::Unused;
            }
            // So drivers take a queue back that know no RING_RESET (VIRTIO 1.4 §4.2.3.2).
            (Stage::Ready, VIRTIO_MMIO_QUEUE_READY) if value == 0 => self.reset_queue(),
            // A live queue stays where it is (VIRTIO 1.4 §4.2.2.2).
            (Stage::Ready | Stage::Resetting, _) => {}
        }
    }

    /// The selected queue is the device's from now on, or from its start on.
    pub(super) fn enable_queue(&mut self) {
        let (live, state) = (self.setup.live, QueueState::fresh(self.setup.driver_features));
        if live {
            self.stop();
        }
        self.change_queue(|queue| (queue.stage, queue.state) = (Stage::Ready, state));
        if live {
            self.start();
        }
    }

    /// The selected queue is as after a reset of the device (VIRTIO 1.4 §2.6.1), and the others go on.
    pub(super) fn reset_queue(&mut self) {
        let live = self.setup.live;
        let stage = if live { Stage::Reset } else { Stage::Unused };
        if live {
            self.change_queue(|queue| queue.stage = Stage::Resetting);
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
