//! The two verbs: what the registers have collected becomes a start of the device.

use std::io;

use cubie_virtq::QueueResources;

use super::MmioTransport;
use super::queues::QueueSetup;
use crate::StartError;
use crate::device::Queues;

impl MmioTransport {
    /// The device serves the queues that are ready, or asks the driver for a reset. One that is paused
    /// does so when it goes on.
    pub(super) fn start(&mut self) {
        self.setup.generation = self.device.config().generation();
        self.setup.live = true;
        if !self.paused {
            // The driver is asked for a reset, and nobody else is there to be told.
            let _ = self.run();
        }
    }

    /// The device of a driver that has started it serves what is ready of the queues.
    pub(super) fn run(&mut self) -> Result<(), StartError> {
        self.line.expect_used_buffers();
        let result = self
            .queues()
            .map_err(Into::into)
            .and_then(|queues| self.device.start(self.setup.driver_features, queues));
        if let Err(error) = &result {
            self.setup.live = false;
            self.line.fail(self.device.id(), error);
        }
        result
    }

    /// The driver has no device to serve it any more.
    pub(super) fn stop(&mut self) {
        self.halt();
        self.setup.live = false;
    }

    /// The device serves nothing any more; its queues remember how far they have got.
    pub(super) fn halt(&mut self) {
        if self.paused {
            return; // It does so already.
        }
        let states = self.device.stop();
        for (queue, state) in self.setup.queues.iter_mut().zip(states) {
            queue.state = state;
        }
    }

    fn queues(&self) -> io::Result<Queues> {
        let of = |stage: fn(&QueueSetup) -> bool| {
            let queues = (0..).zip(&self.setup.queues).filter(|(_, queue)| stage(queue));
            queues.map(|(index, queue)| self.resources(index, queue)).collect::<io::Result<_>>()
        };
        Ok(Queues::new(of(QueueSetup::is_served)?).with_reset(of(QueueSetup::is_idle)?))
    }

    fn resources(&self, index: u16, queue: &QueueSetup) -> io::Result<QueueResources> {
        Ok(QueueResources {
            index,
            params: queue.params,
            state: queue.state,
            features: self.setup.driver_features,
            kick: self.kicks[usize::from(index)].try_clone()?,
            interrupt: self.line.used_buffers(),
            fault: self.line.on_fault(self.device.id(), &queue.broken),
            memory: self.memory.clone(),
        })
    }
}
