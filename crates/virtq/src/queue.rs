//! The queue that a device holds.

use std::sync::Arc;

use cubie_vm_irq::Interrupt;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::chain::{Body, Chain};
use crate::in_order::InOrder;
use crate::memory::Translator;
use crate::ring::{Ring, Taken};
use crate::{Features, QueueError, QueueParams, QueueResources, QueueState};

/// Batches that one [`Virtqueue::drain`] serves before it lets other events in: a driver that never
/// stops must not keep its device from being stopped.
const MOST_BATCHES: usize = 4;

/// What the closure of [`Virtqueue::drain`] did with a chain.
#[derive(Debug)]
pub enum Serve {
    /// Finished; this many bytes were written to its writable buffers.
    Done(Chain, u32),
    /// Kept: it will be completed by [`Virtqueue::push`].
    Later,
    /// Not served now: it stays the next one in the ring, and draining ends.
    Stop(Chain),
}

/// Why [`Virtqueue::drain`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// No chain is left; the driver will kick with the next one.
    Empty,
    /// The closure said [`Serve::Stop`]; the driver was told not to kick.
    Stopped,
    /// More are there, but other events want their turn: the queue has kicked itself.
    Yielded,
    /// The driver broke the ring, see [`Virtqueue::error`].
    Broken,
}

/// The device's end of a virtqueue.
///
/// Owned by one thread. Everything between a kick and the interrupt is here: suppression of kicks, the
/// batch, one update of the used index, the look-again, one interrupt.
#[derive(Debug)]
pub struct Virtqueue {
    ring: Ring,
    params: QueueParams,
    features: Features,
    memory: Translator,
    /// When IN_ORDER was negotiated.
    order: Option<InOrder>,
    #[expect(clippy::vec_box, reason = "a chain moves often, its body stays where it is")]
    pool: Vec<Box<Body>>,
    /// Ring entries of the chains taken and not yet used.
    in_flight: u32,
    /// Used entries were written and not yet published.
    pending: bool,
    error: Option<QueueError>,
    index: u16,
    kick: EventFd,
    interrupt: Interrupt,
    fault: Interrupt,
}

impl Virtqueue {
    /// Resolves the ring's parts to host memory. The addresses are the driver's, so that a failure is
    /// its fault.
    pub fn new(resources: QueueResources) -> Result<Self, QueueError> {
        let QueueResources { index, params, state, features, kick, interrupt, fault, memory } =
            resources;
        let mut memory = Translator::new(memory);
        let ring = Ring::new(&params, state, features, &mut memory)?;
        let order = features.has(Features::IN_ORDER).then(|| InOrder::new(params.size));
        Ok(Self {
            ring,
            params,
            features,
            memory,
            order,
            pool: Vec::new(),
            in_flight: 0,
            pending: false,
            error: None,
            index,
            kick,
            interrupt,
            fault,
        })
    }

    /// The driver's notifications arrive here; it need not be read when polled edge triggered.
    pub fn kick(&self) -> &EventFd {
        &self.kick
    }

    /// Number of descriptors.
    pub fn size(&self) -> u16 {
        self.params.size
    }

    /// What was negotiated.
    pub fn features(&self) -> Features {
        self.features
    }

    /// How far it has got. Valid while no chain is in flight and all is signalled.
    pub fn state(&self) -> QueueState {
        self.ring.state()
    }

    /// What the driver did wrong, once it has. The queue is dead until the device is reset.
    pub fn error(&self) -> Option<QueueError> {
        self.error
    }

    /// Serves all available chains in batches, then asks for the next kick.
    ///
    /// `serve` gets each chain once; see [`Serve`] for what it may answer. What it completes is
    /// published, and the driver interrupted, once a batch.
    pub fn drain(&mut self, mut serve: impl FnMut(Chain) -> Serve) -> Drained {
        for _ in 0..MOST_BATCHES {
            self.ring.disable_kicks();
            let full = match self.batch(&mut serve) {
                Ok(full) => full,
                Err(end) => {
                    self.signal();
                    return end;
                }
            };
            self.signal();
            match full || self.look_again() {
                true => {}
                false if self.error.is_some() => return Drained::Broken,
                false => return Drained::Empty,
            }
        }
        // The counter of an eventfd cannot overflow by ones.
        let _ = self.kick.write(1);
        Drained::Yielded
    }

    /// Takes the next chain, for devices that take several at once. `None` when the ring is empty, or
    /// broken. Kicks are neither enabled nor disabled: end with [`Virtqueue::look_again`].
    #[inline]
    pub fn pop(&mut self) -> Option<Chain> {
        if self.error.is_some() {
            return None;
        }
        self.take().unwrap_or_else(|error| {
            self.latch(error);
            None
        })
    }

    #[inline]
    fn take(&mut self) -> Result<Option<Chain>, QueueError> {
        let Some(next) = self.ring.peek()? else {
            return Ok(None);
        };
        let body = self.pool.pop();
        let mut body = body.unwrap_or_else(|| Body::new(self.memory.memory().clone()));
        body.taken = self.ring.take(next, &mut self.memory, &mut body)?;
        self.in_flight += u32::from(body.taken.entries);
        if self.in_flight > self.params.size.into() {
            return Err(QueueError::InFlight(self.params.size));
        }
        if let Some(order) = &mut self.order {
            // Not more than 2³² − 1: the ring has looked.
            (body.turn, body.room) = (order.take_turn(), body.writable.len() as u32);
        }
        Ok(Some(Chain { body }))
    }

    /// Gives back the chain that [`Virtqueue::pop`] returned last: it will be the next one again.
    pub fn unpop(&mut self, chain: Chain) {
        let Chain { body } = chain;
        let Body { taken, turn, .. } = *body;
        self.ring.unpop(taken);
        self.in_flight -= u32::from(taken.entries);
        if let Some(order) = &mut self.order {
            order.give_back(turn);
        }
        self.recycle(body);
    }

    /// Asks the driver to kick with its next chain. True when one is there already.
    #[inline]
    #[must_use]
    pub fn look_again(&mut self) -> bool {
        if self.error.is_some() {
            return false;
        }
        self.ring.enable_kicks().unwrap_or_else(|error| {
            self.latch(error);
            false
        })
    }

    /// Completes a chain, of whose writable bytes the first `written` were written. The driver learns
    /// of it with the next [`Virtqueue::signal`]; with IN_ORDER, when the chains taken before it are
    /// complete too.
    #[inline]
    pub fn push(&mut self, chain: Chain, written: u32) {
        let Chain { body } = chain;
        let Body { taken, turn, room, .. } = *body;
        let Self { ring, in_flight, order, pending, .. } = self;
        match order {
            None => {
                use_up(ring, in_flight, taken, written);
                *pending = true;
            }
            Some(order) => {
                let push = |taken, written| use_up(ring, in_flight, taken, written);
                *pending |= order.complete(turn, taken, (written, room), push);
            }
        }
        self.recycle(body);
    }

    /// Publishes what was completed, and interrupts the driver if it wants to know.
    #[inline]
    pub fn signal(&mut self) {
        if !std::mem::take(&mut self.pending) {
            return;
        }
        let Self { ring, in_flight, order, .. } = self;
        if let Some(order) = order {
            order.flush(|taken, written| use_up(ring, in_flight, taken, written));
        }
        self.ring.publish();
        if self.ring.wants_interrupt() {
            self.interrupt.trigger();
        }
    }

    /// The memory map has changed: looks the ring and all further buffers up in `memory`. Chains in
    /// flight keep what they were made from mapped. Between two batches only, that is, not within
    /// [`Virtqueue::drain`].
    ///
    /// # Errors
    /// When the ring does not lie in `memory`. The queue goes on in the old one.
    pub fn remap(&mut self, memory: Arc<GuestMemoryMmap>) -> Result<(), QueueError> {
        let mut memory = Translator::new(memory);
        self.ring.remap(&self.params, &mut memory)?;
        self.memory = memory;
        self.pool.clear();
        Ok(())
    }

    /// One batch: `Ok(true)` when the batch is full, `Ok(false)` when the ring is empty.
    fn batch(&mut self, serve: &mut impl FnMut(Chain) -> Serve) -> Result<bool, Drained> {
        for _ in 0..self.params.size {
            let Some(chain) = self.pop() else {
                return if self.error.is_some() { Err(Drained::Broken) } else { Ok(false) };
            };
            match serve(chain) {
                Serve::Done(chain, written) => self.push(chain, written),
                Serve::Later => {}
                Serve::Stop(chain) => {
                    self.unpop(chain);
                    return Err(Drained::Stopped);
                }
            }
        }
        Ok(true)
    }

    #[inline]
    fn recycle(&mut self, mut body: Box<Body>) {
        body.clear();
        // One from before a change of the memory map must not keep the old one alive.
        if Arc::ptr_eq(&body.memory, self.memory.memory()) {
            self.pool.push(body);
        }
    }

    #[cold]
    fn latch(&mut self, error: QueueError) {
        tracing::warn!(queue = self.index, %error, "the driver broke its queue: waiting for a reset");
        self.error = Some(error);
        self.fault.trigger();
    }
}

/// Puts a used chain into `ring`: its entries are in flight no more.
#[inline]
fn use_up(ring: &mut Ring, in_flight: &mut u32, taken: Taken, written: u32) {
    ring.push(taken, written);
    *in_flight -= u32::from(taken.entries);
}
