//! The chains of a queue: those in flight, and the bodies of those to come.

use std::sync::Arc;

use vm_memory::GuestMemoryMmap;

use crate::chain::{Body, Chain};
use crate::in_order::InOrder;
use crate::memory::Translator;
use crate::queue::Serve;
use crate::ring::{AnyRing, Taken};
use crate::{Features, QueueError};

/// How a batch ended.
pub(crate) enum Batch {
    /// With as many chains as the queue has descriptors.
    Full,
    /// With the ring.
    Empty,
    /// With [`Serve::Stop`].
    Stopped,
}

/// What a queue has besides its ring. The ring is an argument, of its own type: so each kind of ring has a
/// loop of its own, in which nothing asks of which kind it is.
#[derive(Debug)]
pub(crate) struct Chains {
    size: u16,
    pub(crate) memory: Translator,
    /// When IN_ORDER was negotiated.
    order: Option<InOrder>,
    #[expect(clippy::vec_box, reason = "a chain moves often, its body stays where it is")]
    pool: Vec<Box<Body>>,
    tally: Tally,
    /// Completions whose used entries were written and not yet published.
    pending: u32,
}

#[derive(Debug, Default)]
struct Tally {
    /// Ring entries of the chains taken and not yet used.
    in_flight: u32,
    /// Descriptors of the ring that were used since the driver was told.
    untold: u32,
}

impl Chains {
    pub(crate) fn new(size: u16, features: Features, memory: Translator) -> Self {
        let order = features.has(Features::IN_ORDER).then(|| InOrder::new(size));
        Self { size, memory, order, pool: Vec::new(), tally: Tally::default(), pending: 0 }
    }

    /// Bodies from before a change of the memory map must not keep the old one alive.
    pub(crate) fn remap(&mut self, memory: Translator) {
        self.memory = memory;
        self.pool.clear();
    }

    /// Serves one batch.
    #[inline]
    pub(crate) fn batch(
        &mut self,
        ring: &mut impl AnyRing,
        serve: &mut impl FnMut(Chain) -> Serve,
    ) -> Result<Batch, QueueError> {
        for _ in 0..self.size {
            let Some(chain) = self.take(ring)? else {
                return Ok(Batch::Empty);
            };
            match serve(chain) {
                Serve::Done(chain, written) => self.put(ring, chain, written),
                Serve::Later => {}
                Serve::Stop(chain) => {
                    self.give_back(ring, chain);
                    return Ok(Batch::Stopped);
                }
            }
        }
        Ok(Batch::Full)
    }

    /// Takes the next chain, if there is one.
    #[inline]
    pub(crate) fn take(&mut self, ring: &mut impl AnyRing) -> Result<Option<Chain>, QueueError> {
        let Some(next) = ring.peek()? else {
            return Ok(None);
        };
        let mut body = self.pool.pop().unwrap_or_else(|| Body::new(self.map().clone()));
        body.taken = ring.take(next, &mut self.memory, &mut body)?;
        self.tally.in_flight += u32::from(body.taken.entries);
        if self.tally.in_flight > self.size.into() {
            return Err(QueueError::InFlight(self.size));
        }
        if let Some(order) = &mut self.order {
            // Not more than 2³² − 1: the ring has looked.
            (body.turn, body.room) = (order.take_turn(), body.writable.len() as u32);
        }
        Ok(Some(Chain { body }))
    }

    /// Gives back the chain that was taken last.
    pub(crate) fn give_back(&mut self, ring: &mut impl AnyRing, chain: Chain) {
        let Chain { body } = chain;
        let Body { taken, turn, .. } = *body;
        ring.unpop(taken);
        self.tally.in_flight -= u32::from(taken.entries);
        if let Some(order) = &mut self.order {
            order.give_back(turn);
        }
        self.recycle(body);
    }

    /// Completes a chain.
    #[inline]
    pub(crate) fn put(&mut self, ring: &mut impl AnyRing, chain: Chain, written: u32) {
        let Chain { body } = chain;
        let Body { taken, turn, room, .. } = *body;
        let Self { tally, order, pending, .. } = self;
        match order {
            None => {
                tally.use_up(ring, taken, written);
                *pending += 1;
            }
            Some(order) => {
                let push = |taken, written| tally.use_up(ring, taken, written);
                *pending += order.complete(turn, taken, (written, room), push);
            }
        }
        self.recycle(body);
    }

    /// So many of the latest completions are one.
    #[inline]
    pub(crate) fn count_as_one(&mut self, chains: u32) {
        // With IN_ORDER some may have to wait, but those that do not are one at least.
        let rest = self.pending.saturating_sub(chains);
        self.pending = self.pending.min(rest + 1);
    }

    /// Puts what IN_ORDER has held back into the ring. How many completions it has to publish.
    #[inline]
    pub(crate) fn flush(&mut self, ring: &mut impl AnyRing) -> u32 {
        let Self { tally, order, pending, .. } = self;
        let pending = std::mem::take(pending);
        if let Some(order) = order.as_mut().filter(|_| pending > 0) {
            order.flush(|taken, written| tally.use_up(ring, taken, written));
        }
        pending
    }

    /// Descriptors of the ring that the driver has back and was not told of.
    #[inline]
    pub(crate) fn untold(&self) -> u32 {
        self.tally.untold
    }

    /// The driver is told.
    #[inline]
    pub(crate) fn tell(&mut self) {
        self.tally.untold = 0;
    }

    #[inline]
    fn recycle(&mut self, mut body: Box<Body>) {
        body.clear();
        // One from before a change of the memory map must not keep the old one alive.
        if Arc::ptr_eq(&body.memory, self.map()) {
            self.pool.push(body);
        }
    }

    fn map(&self) -> &Arc<GuestMemoryMmap> {
        self.memory.memory()
    }
}

impl Tally {
    /// Puts a used chain into `ring`: its entries are in flight no more.
    #[inline]
    fn use_up(&mut self, ring: &mut impl AnyRing, taken: Taken, written: u32) {
        ring.push(taken, written);
        self.in_flight -= u32::from(taken.entries);
        self.untold = self.untold.saturating_add(taken.descriptors.into());
    }
}
