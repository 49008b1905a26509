//! The two verbs: what the front-end has said becomes a start of the device.

use std::io;
use std::sync::Arc;

use cubie_virtio_core::{Features, Inflight, QueueResources, Queues, StartError};
use cubie_virtq::{OnFault, QueueParams};
use cubie_vm_irq::Interrupt;

use crate::Dropped;
use crate::ring::Ring;
use crate::session::{PROTOCOL_FEATURES, Session};

impl Session<'_> {
    /// Changes something that the device may be working with: it is stopped meanwhile, and goes on where it
    /// was.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Self)) -> Result<(), Dropped> {
        self.stop();
        change(self);
        self.start()
    }

    /// The same with one ring; the others go on meanwhile if the device does not and will not serve it.
    pub(crate) fn change_ring(
        &mut self,
        index: u16,
        change: impl FnOnce(&mut Ring),
    ) -> Result<(), Dropped> {
        let at = usize::from(index);
        let served = self.rings[at].served;
        if served {
            self.stop();
        }
        change(&mut self.rings[at]);
        if served || self.place(at).is_some() {
            self.stop();
            self.start()?;
        }
        Ok(())
    }

    /// Nothing is in flight afterwards; rings remember how far they have got.
    pub(crate) fn stop(&mut self) {
        if !std::mem::replace(&mut self.running, false) {
            return;
        }
        for (ring, state) in self.rings.iter_mut().zip(self.device.stop()) {
            if std::mem::replace(&mut ring.served, false) {
                ring.set_state(state);
            }
        }
    }

    /// Starts the device with the rings that are on, as long as there is one. The others are there, and empty.
    fn start(&mut self) -> Result<(), Dropped> {
        loop {
            let Some(queues) = self.queues()? else { return Ok(()) };
            match self.device.start(self.device_features(), queues) {
                Ok(()) => {
                    self.running = true;
                    self.rings.iter_mut().for_each(Ring::catch_up);
                    return Ok(());
                }
                // One ring less each time.
                Err(StartError::Queue { index, source }) => {
                    self.rings.iter_mut().for_each(|ring| ring.served = false);
                    self.status.fail(&source, index);
                    self.rings[usize::from(index)].fault().tell();
                }
                Err(error) => return Err(Dropped::Device(error)),
            }
        }
    }

    /// Where a ring lies that is to be served. One whose memory is away for a moment waits for it.
    fn place(&self, at: usize) -> Option<QueueParams> {
        let ring = &self.rings[at];
        // Without the protocol's features, there is no message to enable a ring by.
        let on = ring.is_on(!self.features.has(PROTOCOL_FEATURES));
        let legacy = !self.features.has(Features::VERSION_1);
        if on && !legacy { ring.place(&self.memory) } else { None }
    }

    /// The queues for a start; `None` when there is nothing to serve.
    fn queues(&mut self) -> Result<Option<Queues>, Dropped> {
        let places: Vec<_> = (0..self.rings.len()).map(|at| self.place(at)).collect();
        if places.iter().all(Option::is_none) {
            return Ok(None);
        }
        let (mut ready, mut idle, mut inflight) = (vec![], vec![], vec![]);
        for (index, params) in (0..).zip(places) {
            if let Some(notes) = params.and_then(|params| self.notes_of(index, params)) {
                inflight.push((index, notes));
            }
            let queue = self.resources(index, params.unwrap_or_default())?;
            self.rings[usize::from(index)].served = params.is_some();
            if params.is_some() { ready.push(queue) } else { idle.push(queue) }
        }
        Ok(Some(Queues::new(ready).with_reset(idle).with_inflight(inflight)))
    }

    /// Where it is noted what is in flight of a queue.
    fn notes_of(&self, index: u16, params: QueueParams) -> Option<Inflight> {
        self.notes.as_ref()?.queue(index, params.size)
    }

    fn resources(&self, index: u16, params: QueueParams) -> io::Result<QueueResources> {
        let ring = &self.rings[usize::from(index)];
        Ok(QueueResources {
            index,
            params,
            state: ring.state(params, self.device_features(), &self.memory),
            features: self.device_features(),
            kick: ring.kick()?,
            interrupt: ring.call.clone().unwrap_or_else(Interrupt::silent),
            fault: self.on_fault(ring),
            memory: Arc::clone(self.memory.map()),
        })
    }

    /// Who hears that the driver has broken `ring`.
    fn on_fault(&self, ring: &Ring) -> OnFault {
        let (status, fault) = (Arc::clone(&self.status), ring.fault());
        OnFault::new(move |queue, what| {
            status.fail(&what, queue);
            fault.tell();
        })
    }

    /// What was negotiated, as a device knows it.
    fn device_features(&self) -> Features {
        Features(self.features.0 & !PROTOCOL_FEATURES.0)
    }
}
