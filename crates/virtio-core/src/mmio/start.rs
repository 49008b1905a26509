//! The two verbs: what the registers have collected becomes a start of the device.

use std::io;

use cubie_virtq::QueueResources;

use super::MmioTransport;
use super::queues::QueueSetup;
use crate::device::Queues;

impl MmioTransport {
    /// The device serves the queues that are ready, or asks the driver for a reset.
    pub(super) fn start(&mut self) {
        self.setup.generation = self.device.config().generation();
        self.line.expect_used_buffers();
        let result = self
            .queues()
            .map_err(Into::into)
            .and_then(|queues| self.device.start(self.setup.driver_features, queues));
        self.setup.live = result.is_ok();
        if let Err(error) = result {
            self.line.fail(self.device.id(), &error);
        }
    }

    /// The device serves nothing any more; its queues remember how far they have got.
    pub(super) fn stop(&mut self) {
        let states = self.device.stop();
        self.setup.live = false;
        for (queue, state) in self.setup.queues.iter_mut().zip(states) {
            queue.state = state;
        }
    }

    fn queues(&self) -> io::Result<Queues> {
        let of = |stage: fn(&QueueSetup) -> bool| {
            let queues = (0..).zip(&self.setup.queues).filter(|(_, queue)| stage(queue));
            queues.map(|(index, queue)| self.resources(index, queue)).collect::<io::Result<_>>()
        };
        Ok(Queues::new(of(QueueSetup::is_ready)?).with_reset(of(QueueSetup::is_in_reset)?))
    }

    fn resources(&self, index: u16, queue: &QueueSetup) -> io::Result<QueueResources> {
        Ok(QueueResources {
            index,
            params: queue.params,
            state: queue.state,
            features: self.setup.driver_features,
            kick: self.kicks[usize::from(index)].try_clone()?,
            interrupt: self.line.used_buffers(),
            fault: self.line.on_fault(self.device.id()),
            memory: self.memory.clone(),
        })
    }
}
