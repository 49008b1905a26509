//! Is a state one that this transport could have come to?
//!
//! It may be from anybody's file. What is not looked at here cannot harm: addresses and positions of queues
//! are a driver's choice anyway.

use cubie_virtq::Features;
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};

use super::{QueueStage, RestoreError, SavedQueue, TransportState};
use crate::status::{DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, is_reachable};
use crate::{Interface, VirtioDevice};

/// Fails with a [`RestoreError::Damaged`] unless the condition holds.
macro_rules! sound {
    ($holds:expr, $else:literal) => {
        if !$holds {
            return Err(RestoreError::Damaged($else));
        }
    };
}

impl TransportState {
    /// Is it of such a device, behind such registers, that offer these features?
    pub(crate) fn check(
        &self,
        device: &dyn VirtioDevice,
        interface: Interface,
        offered: Features,
    ) -> Result<(), RestoreError> {
        self.check_device(device)?;
        let (saved, here) = (self.interface, interface);
        if saved != here {
            return Err(RestoreError::Interface { saved, here });
        }
        let (saved, here) = (self.offered.0, offered.0);
        if saved != here {
            return Err(RestoreError::Features { saved, here });
        }
        self.check_registers()?;
        self.queues.iter().try_for_each(|queue| self.check_queue(queue))
    }

    fn check_device(&self, device: &dyn VirtioDevice) -> Result<(), RestoreError> {
        if self.version != Self::VERSION {
            return Err(RestoreError::Version(self.version));
        }
        let (saved, here) = (self.device.0, device.id().0);
        if saved != here {
            return Err(RestoreError::Device { saved, here });
        }
        let sizes = device.queue_sizes();
        let (saved, here) = (self.queues.len(), sizes.len());
        if saved != here {
            return Err(RestoreError::Queues { saved, here });
        }
        let mut queues = self.queues.iter().map(|queue| queue.max).zip(sizes).enumerate();
        if let Some((queue, (saved, here))) = queues.find(|(_, (saved, here))| saved != *here) {
            return Err(RestoreError::QueueMax { queue, saved, here: *here });
        }
        let (saved, here) = (self.config.len(), device.config().len());
        if saved != here {
            return Err(RestoreError::Config { saved, here });
        }
        Ok(())
    }

    fn has(&self, status: u32) -> bool {
        self.status & status == status
    }

    fn is_modern(&self) -> bool {
        self.interface == Interface::Modern
    }

    fn check_registers(&self) -> Result<(), RestoreError> {
        let steps = self.interface.steps();
        sound!(is_reachable(steps, self.status), "no driver comes to this status");
        let reasons = VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG;
        sound!(self.interrupt_status & !reasons == 0, "interrupts for no known reason");
        let early = self.interrupt_status != 0 || self.live;
        sound!(!early || self.has(DRIVER), "a device that runs without a driver");
        let ready = self.has(DRIVER_OK);
        sound!(!self.live || ready || !self.is_modern(), "a device that runs before DRIVER_OK");
        sound!(!ready || self.live || self.has(NEEDS_RESET), "a device that does not run");
        let known = self.offered.has(self.driver_features);
        let agreed = known && self.driver_features.has(Features::VERSION_1);
        sound!(agreed || !self.has(FEATURES_OK), "features that the device cannot work with");
        sound!(known || self.is_modern(), "features that were not offered");
        sound!(self.guest_page_size.is_power_of_two(), "a page size that is no power of two");
        Ok(())
    }

    fn check_queue(&self, queue: &SavedQueue) -> Result<(), RestoreError> {
        let (ready, reset) = (queue.stage == QueueStage::Ready, queue.stage == QueueStage::Reset);
        sound!(queue.params.size <= queue.max, "a queue that is longer than it can be");
        sound!(queue.align.is_power_of_two(), "an alignment that is no power of two");
        let agreed = self.has(FEATURES_OK) || !self.is_modern();
        sound!(!ready || agreed, "a queue that is ready before FEATURES_OK");
        sound!(!reset || self.live || self.has(NEEDS_RESET), "a queue was reset before its start");
        sound!(!queue.broken || ready && self.has(NEEDS_RESET), "a broken queue nobody knows of");
        Ok(())
    }
}
