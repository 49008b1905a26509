//! Either ring.

use crate::chain::Body;
use crate::memory::Translator;
use crate::packed::PackedRing;
use crate::split::SplitRing;
use crate::{Features, QueueError, QueueParams, QueueState};

/// A chain as its ring knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// What the driver calls it: index of the first descriptor, or buffer id.
    pub(crate) id: u16,
    /// Ring entries that it has come in, and that the device passes over when it uses it.
    pub(crate) entries: u16,
    /// Descriptors of the ring that it takes up, without those in a table of its own.
    pub(crate) descriptors: u16,
}

/// What is done with each chain.
pub(crate) trait AnyRing {
    /// Where the next chain begins, if there is one: for [`AnyRing::take`].
    fn peek(&mut self) -> Result<Option<u64>, QueueError>;

    /// Takes the chain that [`AnyRing::peek`] has shown, with its buffers in `body`.
    fn take(
        &mut self,
        next: u64,
        memory: &mut Translator,
        body: &mut Body,
    ) -> Result<Taken, QueueError>;

    /// Gives the chain taken last back to the ring.
    fn unpop(&mut self, taken: Taken);

    /// Writes a used entry, which the driver sees at the next [`Ring::publish`].
    fn push(&mut self, taken: Taken, written: u32);
}

/// The ring of a queue, of the kind that was negotiated.
#[derive(Debug)]
pub(crate) enum Ring {
    Split(SplitRing),
    Packed(PackedRing),
}

/// The same call on either ring.
macro_rules! either {
    ($self:expr, $ring:ident => $call:expr) => {
        match $self {
            $crate::ring::Ring::Split($ring) => $call,
            $crate::ring::Ring::Packed($ring) => $call,
        }
    };
}
pub(crate) use either;

impl Ring {
    pub(crate) fn new(
        params: &QueueParams,
        state: QueueState,
        features: Features,
        memory: &mut Translator,
    ) -> Result<Self, QueueError> {
        if features.has(Features::PACKED) {
            PackedRing::new(params, state, features, memory).map(Self::Packed)
        } else {
            SplitRing::new(params, state, features, memory).map(Self::Split)
        }
    }

    /// Looks its parts up again, in another `memory`. After an error all is as before.
    pub(crate) fn remap(
        &mut self,
        params: &QueueParams,
        memory: &mut Translator,
    ) -> Result<(), QueueError> {
        either!(self, ring => ring.remap(params, memory))
    }

    pub(crate) fn state(&self) -> QueueState {
        either!(self, ring => ring.state())
    }

    /// Shows the driver all used entries so far.
    #[inline]
    pub(crate) fn publish(&mut self) {
        either!(self, ring => ring.publish());
    }

    /// After [`Ring::publish`]: does the driver want an interrupt for what is new?
    #[inline]
    pub(crate) fn wants_interrupt(&mut self) -> bool {
        either!(self, ring => ring.wants_interrupt())
    }

    /// Asks the driver for a kick with the next chain. True when there is one already: look again.
    #[inline]
    pub(crate) fn enable_kicks(&mut self) -> Result<bool, QueueError> {
        either!(self, ring => ring.enable_kicks())
    }

    /// Tells the driver that kicks are not needed now. Only a hint: kicks may still come.
    #[inline]
    pub(crate) fn disable_kicks(&mut self) {
        either!(self, ring => ring.disable_kicks());
    }

    /// The same, also when a kick was asked for with the next chain.
    pub(crate) fn silence_kicks(&mut self) {
        either!(self, ring => ring.silence_kicks());
    }
}

/// True when `event` is among the entries from `old` up to but not including `new`
/// (VIRTIO 1.4 §2.7.7.2, `vring_need_event`).
#[inline]
pub(crate) fn needs_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::needs_event;

    #[test]
    fn an_event_counts_when_it_lies_between_old_and_new() {
        assert!(needs_event(4, 5, 4));
        assert!(!needs_event(5, 5, 4));
        assert!(!needs_event(3, 5, 4));
        assert!(needs_event(0xffff, 1, 0xfffe), "across the wrap");
        assert!(!needs_event(9, 4, 4), "nothing new");
    }
}
