//! What passed, and what did not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a card since it was made, by pair and direction. Clones share them.
#[derive(Clone, Debug)]
pub struct Counters(Arc<[PairTally]>);

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames that passed, as the guest has them: those that are to be cut into segments are one.
    pub frames: u64,
    /// Their bytes, without what precedes each.
    pub bytes: u64,
    /// Frames that did not pass.
    pub drops: Drops,
}

/// Frames that were dropped, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Of an impossible length, or with less than a header. From the host: longer than the guest's buffers
    /// or its MTU.
    pub length: u64,
    /// With a header that asks for what was not negotiated.
    pub header: u64,
    /// Refused by the host end.
    pub refused: u64,
    /// For somebody else, as the driver wants to hear of.
    pub filtered: u64,
    /// In a pair that the driver does not use.
    pub inactive: u64,
    /// The link was down.
    pub link_down: u64,
}

/// The counters of a pair, which one thread writes at a time.
#[derive(Debug, Default)]
pub(crate) struct PairTally {
    pub(crate) receive: Tally,
    pub(crate) transmit: Tally,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    frames: AtomicU64,
    bytes: AtomicU64,
    drops: [AtomicU64; REASONS],
}

/// Why a frame is dropped, see [`Drops`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Length,
    Header,
    Refused,
    Filtered,
    Inactive,
    LinkDown,
}

const REASONS: usize = Reason::LinkDown as usize + 1;

impl Counters {
    pub(crate) fn new(pairs: usize) -> Self {
        Self((0..pairs).map(|_| PairTally::default()).collect())
    }

    /// Pairs of queues that are counted.
    pub fn pairs(&self) -> usize {
        self.0.len()
    }

    /// What came from the host, in all pairs.
    pub fn receive(&self) -> Traffic {
        self.0.iter().map(|pair| pair.receive.read()).fold(Traffic::default(), Traffic::and)
    }

    /// What the guest sent, in all pairs.
    pub fn transmit(&self) -> Traffic {
        self.0.iter().map(|pair| pair.transmit.read()).fold(Traffic::default(), Traffic::and)
    }

    /// What came from the host and what the guest sent in this pair, counted from 0. Nothing passed in one
    /// that the card does not have.
    pub fn of_pair(&self, pair: usize) -> [Traffic; 2] {
        let pair = self.0.get(pair);
        pair.map_or_else(Default::default, |pair| [pair.receive.read(), pair.transmit.read()])
    }

    /// Where a pair's thread counts.
    pub(crate) fn tally(&self, pair: u16) -> &PairTally {
        &self.0[usize::from(pair)]
    }
}

impl Traffic {
    /// Both together.
    fn and(self, other: Self) -> Self {
        let Self { frames, bytes, drops } = other;
        let drops = self.drops.and(drops);
        Self { frames: self.frames + frames, bytes: self.bytes + bytes, drops }
    }
}

impl Drops {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Self { length, header, refused, filtered, inactive, link_down } = self;
        length + header + refused + filtered + inactive + link_down
    }

    fn and(self, other: Self) -> Self {
        let Self { length, header, refused, filtered, inactive, link_down } = other;
        Self {
            length: self.length + length,
            header: self.header + header,
            refused: self.refused + refused,
            filtered: self.filtered + filtered,
            inactive: self.inactive + inactive,
            link_down: self.link_down + link_down,
        }
    }
}

impl Tally {
    /// A frame of `len` bytes has passed.
    pub(crate) fn pass(&self, len: usize) {
        add(&self.frames, 1);
        add(&self.bytes, len as u64);
    }

    /// A frame was dropped.
    pub(crate) fn drop(&self, reason: Reason) {
        add(&self.drops[reason as usize], 1);
    }

    fn read(&self) -> Traffic {
        let dropped = |reason| self.drops[reason as usize].load(Ordering::Relaxed);
        Traffic {
            frames: self.frames.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            drops: Drops {
                length: dropped(Reason::Length),
                header: dropped(Reason::Header),
                refused: dropped(Reason::Refused),
                filtered: dropped(Reason::Filtered),
                inactive: dropped(Reason::Inactive),
                link_down: dropped(Reason::LinkDown),
            },
        }
    }
}

/// By the only thread that writes: a load and a store are cheaper than one that others wait for.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_and_what_does_not_is_counted_by_pair_and_direction() {
        let counters = Counters::new(2);
        counters.tally(0).receive.pass(100);
        counters.tally(1).receive.pass(50);
        counters.tally(1).receive.drop(Reason::Length);
        counters.tally(1).transmit.drop(Reason::LinkDown);
        let [receive, transmit] = counters.of_pair(1);
        assert_eq!((receive.frames, receive.bytes, receive.drops.length), (1, 50, 1));
        assert_eq!((transmit.frames, transmit.drops.link_down), (0, 1));
        let all = counters.receive();
        assert_eq!((all.frames, all.bytes, all.drops.total()), (2, 150, 1));
        assert_eq!(counters.transmit().drops.total(), 1);
        assert_eq!(counters.of_pair(2), [Traffic::default(); 2]);
    }
}
