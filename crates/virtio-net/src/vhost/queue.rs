//! A queue on its way into the kernel, and there.

use std::fs::File;
use std::io;

use cubie_virtio_core::{QueueResources, QueueState, Queues, Source, StartError, Virtqueue};
use cubie_virtq::QueueError;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Vhost;
use crate::parts::Queue;

/// A queue that the kernel is to serve.
#[derive(Debug)]
pub(crate) enum Lent {
    Ready(QueueResources),
    /// The driver has reset it: nobody serves it until the next start.
    InReset(Box<Virtqueue>),
}

impl Queue for Lent {
    fn take(queues: &mut Queues, index: u16) -> Result<Self, StartError> {
        match queues.take_resources(index) {
            Some(queue) => Ok(Self::Ready(queue)),
            None => Ok(Self::InReset(queues.take(index)?.into())),
        }
    }

    fn state(&self) -> QueueState {
        match self {
            Self::Ready(queue) => queue.state,
            Self::InReset(queue) => queue.state(),
        }
    }

    fn in_reset(&self) -> bool {
        matches!(self, Self::InReset(_))
    }
}

/// A queue that the kernel knows all about.
#[derive(Debug)]
pub(crate) struct KernelQueue {
    /// The kernel's number for it.
    nth: usize,
    queue: QueueResources,
    /// Written when the kernel has used buffers and cannot raise the interrupt itself.
    call: Option<EventFd>,
    /// Written when the kernel finds the queue broken.
    broken: EventFd,
    /// It was: nobody serves it until the next start.
    dead: bool,
}

impl KernelQueue {
    /// Tells the kernel of its `nth` queue.
    pub(crate) fn new(
        vhost: &Vhost,
        nth: usize,
        queue: QueueResources,
    ) -> Result<Self, StartError> {
        let broken = EventFd::new(EFD_NONBLOCK)?;
        let call = match queue.interrupt.offload() {
            Some(line) => {
                vhost.show(nth, &queue, line, &broken)?;
                None
            }
            None => {
                let call = EventFd::new(EFD_NONBLOCK)?;
                vhost.show(nth, &queue, &call, &broken)?;
                Some(call)
            }
        };
        Ok(Self { nth, queue, call, broken, dead: false })
    }

    /// The driver's notifications arrive here.
    pub(crate) fn kick(&self) -> &EventFd {
        &self.queue.kick
    }

    /// The kernel has not found it broken.
    pub(crate) fn is_alive(&self) -> bool {
        !self.dead
    }

    /// The kernel serves the queue through this tap from now on, after a kick of ours, or, without one, no more.
    pub(crate) fn connect(&self, vhost: &Vhost, tap: Option<&File>) -> io::Result<()> {
        let tap = tap.filter(|_| !self.dead);
        vhost.connect(self.nth, tap)?;
        if tap.is_some() {
            // What was made available before. The counter of an eventfd cannot overflow by ones.
            let _ = self.queue.kick.write(1);
        }
        Ok(())
    }

    /// What the kernel says to us; each arrives as `token`.
    pub(crate) fn sources(&self, token: u32) -> impl Iterator<Item = Source> {
        let all = self.call.iter().chain([&self.broken]);
        all.map(move |event| Source::readable(event, token))
    }

    /// Passes on what the kernel has said. A queue that it finds broken is told of once, and served no more,
    /// unless it only could not go on because the host end `is_lost`.
    pub(crate) fn relay(&mut self, vhost: &Vhost, is_lost: impl FnOnce() -> bool) {
        if self.call.as_ref().is_some_and(|call| call.read().is_ok()) {
            self.queue.interrupt.trigger();
        }
        if self.broken.read().is_ok() && !self.dead && !is_lost() {
            self.dead = true;
            if let Err(error) = self.connect(vhost, None) {
                tracing::warn!(%error, "vhost-net does not let go of a broken queue");
            }
            self.queue.fault.tell(self.queue.index, QueueError::Elsewhere);
        }
    }

    /// Its index, and how far it has got, once it is not connected.
    pub(crate) fn state(&self, vhost: &Vhost) -> (u16, QueueState) {
        let state = vhost.state(self.nth, &self.queue).unwrap_or_else(|error| {
            tracing::warn!(%error, "vhost-net does not say how far a queue has got");
            self.queue.state
        });
        (self.queue.index, state)
    }
}
