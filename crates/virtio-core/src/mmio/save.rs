//! Three more verbs, for snapshots: save, restore, resume.

use virtio_bindings::virtio_mmio::VIRTIO_MMIO_INT_CONFIG;

use super::MmioTransport;
use super::setup::Setup;
use crate::status::DRIVER_OK;
use crate::{RestoreError, StartError, TransportState};

impl MmioTransport {
    /// Stops the device and says how far it and its driver have come: nothing is in flight any more, and
    /// nothing of guest memory is read or written until [`resume`](Self::resume).
    ///
    /// The vCPUs rest meanwhile, and before it all stores that the hypervisor has delayed are carried
    /// out. What a driver writes nevertheless is heard, and is not in the state; a device that it starts
    /// starts with `resume`.
    pub fn save(&mut self) -> TransportState {
        self.halt();
        self.paused = true;
        // The configuration before the reasons to interrupt: a change in between pends once too often, and
        // not once too little.
        let (config, config_generation, untold) = self.device.config().save();
        let (status, pending) = self.line.save();
        let untold = if untold && status & DRIVER_OK != 0 { VIRTIO_MMIO_INT_CONFIG } else { 0 };
        let Setup {
            device_features_select,
            driver_features_select,
            driver_features,
            queue_select,
            shared_memory_select,
            ref queues,
            guest_page_size,
            live,
            generation,
        } = self.setup;
        TransportState {
            version: TransportState::VERSION,
            device: self.device.id(),
            interface: self.interface,
            offered: self.offered(),
            status,
            interrupt_status: pending | untold,
            live,
            device_features_select,
            driver_features_select,
            queue_select,
            shared_memory_select,
            driver_features,
            guest_page_size,
            config,
            config_generation,
            started_at: generation,
            queues: queues.iter().map(Into::into).collect(),
            own: self.device.save(),
        }
    }

    /// Makes this transport, which no driver has begun with, and its device go on where those were that
    /// `state` was saved of, with [`resume`](Self::resume). The driver sees the same registers, in the page
    /// too if there is one, and guest memory holds what it held then.
    ///
    /// The transport has the same interface and rings, and its device was made in the same way.
    ///
    /// # Errors
    /// When the state is not one of such a device, or is damaged. All is as it was.
    pub fn restore(&mut self, state: &TransportState) -> Result<(), RestoreError> {
        if self.line.status() != 0 || self.setup.live {
            return Err(RestoreError::InUse);
        }
        state.check(&*self.device, self.interface, self.offered())?;
        self.device.restore(&state.own)?;
        self.device.config().restore(&state.config, state.config_generation);
        self.setup = Setup {
            device_features_select: state.device_features_select,
            driver_features_select: state.driver_features_select,
            driver_features: state.driver_features,
            queue_select: state.queue_select,
            shared_memory_select: state.shared_memory_select,
            queues: state.queues.iter().map(Into::into).collect(),
            guest_page_size: state.guest_page_size,
            live: state.live,
            generation: state.started_at,
        };
        self.line.restore(state.status, state.interrupt_status);
        self.paused = true;
        self.refresh();
        Ok(())
    }

    /// Goes on after [`save`](Self::save) or [`restore`](Self::restore): starts the device, if it ran,
    /// kicks each of its queues, in case that the driver has done so meanwhile, and interrupts for what the
    /// driver has not acknowledged. Without effect in between.
    ///
    /// # Errors
    /// When the device does not start, because guest memory is not what it was, or the host refuses
    /// something. The driver is asked for a reset, as at any other start.
    pub fn resume(&mut self) -> Result<(), StartError> {
        if !std::mem::replace(&mut self.paused, false) {
            return Ok(());
        }
        let started = if self.setup.live { self.run() } else { Ok(()) };
        for (kick, queue) in self.kicks.iter().zip(&self.setup.queues) {
            if self.setup.live && queue.is_served() {
                // The counter of an eventfd cannot overflow by ones.
                let _ = kick.write(1);
            }
        }
        self.line.raise_again();
        started
    }
}
