//! Kicks and interrupts: who tells whom, and when.

use std::num::NonZeroU32;

use super::Virtqueue;
use crate::Signals;
use crate::ring::{AnyRing, either};

impl Virtqueue {
    /// Tells the driver that kicks are not needed, until [`Virtqueue::look_again`].
    #[inline]
    pub(crate) fn disable_kicks(&mut self) {
        self.ring.disable_kicks();
    }

    /// Asks the driver to kick with its next chain, if it is wanted to. True when one is there already.
    #[inline]
    #[must_use]
    pub fn look_again(&mut self) -> bool {
        if self.error.is_some() {
            return false;
        }
        let more = match self.polled {
            true => either!(&mut self.ring, ring => ring.peek()).map(|next| next.is_some()),
            false => self.ring.enable_kicks(),
        };
        more.unwrap_or_else(|error| {
            self.latch(error);
            false
        })
    }

    /// Whether the driver is to kick: not while the device looks at the ring by itself again and again, by
    /// [`Virtqueue::look_again`], with other events between the looks. The driver may kick all the same.
    ///
    /// When it is wanted to again, it is told so by the next [`Virtqueue::drain`] or
    /// [`Virtqueue::look_again`], which also finds what has come meanwhile: one has to follow.
    pub fn want_kicks(&mut self, wanted: bool) {
        self.polled = !wanted;
        if self.polled {
            self.ring.silence_kicks();
        }
    }

    /// Publishes what was completed, and interrupts the driver if it wants to know; unless
    /// [`Virtqueue::hold_interrupts`] has it wait.
    #[inline]
    pub fn signal(&mut self) {
        let completed = either!(&mut self.ring, ring => self.chains.flush(ring));
        if completed == 0 {
            return;
        }
        self.ring.publish();
        self.signals.batches += 1;
        let half = self.params.size.div_ceil(2);
        if !self.hold.keeps(completed) || self.chains.untold() >= half.into() {
            self.tell();
        }
    }

    /// Interrupts the driver, if it wants to know of what was published since it was told last.
    #[inline]
    pub fn tell(&mut self) {
        self.hold.tell();
        self.chains.tell();
        if self.ring.wants_interrupt() {
            self.signals.interrupts += 1;
            self.interrupt.trigger();
        }
    }

    /// From now on has the driver told only when it was not told of `until` completions, or of half of its
    /// ring's descriptors: it is not to run dry, however long its chains are. Those of one [`Room::push`](crate::Room::push) are one. The driver sees
    /// what is completed as before, when it looks. `None` for at once, as at the beginning.
    ///
    /// What then waits has to be told by [`Virtqueue::tell`] some day, and before the queue stops:
    /// `hold_interrupts(None)` does.
    pub fn hold_interrupts(&mut self, until: Option<NonZeroU32>) {
        if self.hold.change(until) && self.untold().is_some() {
            self.tell();
        }
    }

    /// Whether an interrupt waits for more to tell: a number, which is another one for the next that does.
    #[inline]
    pub fn untold(&self) -> Option<u32> {
        self.hold.waiting()
    }

    /// So many of the chains that were pushed last are one completion.
    pub(crate) fn count_as_one(&mut self, chains: usize) {
        self.chains.count_as_one(chains as u32);
    }

    /// Kicks itself: what is left has its turn after other events.
    pub fn kick_itself(&mut self) {
        self.signals.own_kicks += 1;
        // The counter of an eventfd cannot overflow by ones.
        let _ = self.kick.write(1);
    }

    /// How often it was signalled since the last time that this was asked for, or since it was made.
    pub fn take_signals(&mut self) -> Signals {
        std::mem::take(&mut self.signals)
    }
}
