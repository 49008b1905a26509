//! What passed, and what did not.

use std::sync::Arc;
use std::time::Duration;

use crate::Effort;
use crate::effort::{Counter, EffortTally};

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
    /// Nanoseconds that the pair's worker has run.
    pub(crate) worker: Counter,
    /// Of these, in which it has looked for frames in vain.
    pub(crate) in_vain: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) frames: Counter,
    bytes: Counter,
    drops: [Counter; REASONS],
    pub(crate) effort: EffortTally,
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

    /// What it took to receive, and to transmit, in all pairs.
    pub fn effort(&self) -> [Effort; 2] {
        let pairs = self.0.iter().map(PairTally::effort);
        let both = |one: [Effort; 2], other: [Effort; 2]| {
            [one[0].with(other[0], u64::wrapping_add), one[1].with(other[1], u64::wrapping_add)]
        };
        pairs.reduce(both).unwrap_or_default()
    }

    /// The same in this pair, counted from 0. It took nothing in one that the card does not have.
    pub fn effort_of_pair(&self, pair: usize) -> [Effort; 2] {
        self.0.get(pair).map_or_else(Default::default, PairTally::effort)
    }

    /// Processor time of the threads of all pairs, as they have looked at it last: once in 61 wake-ups. They serve
    /// both directions.
    pub fn worker_time(&self) -> Duration {
        self.nanos(|pair| &pair.worker)
    }

    /// Of [`Counters::worker_time`], what these threads looked for frames when there were none, instead of sleeping
    /// ([`Net::with_polling`](crate::Net::with_polling)). By the card's clock, also while their CPU was taken away.
    pub fn polling_time(&self) -> Duration {
        self.nanos(|pair| &pair.in_vain)
    }

    fn nanos(&self, of: impl Fn(&PairTally) -> &Counter) -> Duration {
        Duration::from_nanos(self.0.iter().map(|pair| of(pair).get()).sum())
    }

    /// Where a pair's thread counts.
    pub(crate) fn tally(&self, pair: u16) -> &PairTally {
        &self.0[usize::from(pair)]
    }
}

impl PairTally {
    /// Where is counted what it takes to receive, and to transmit.
    pub(crate) fn efforts(&self) -> [&EffortTally; 2] {
        [&self.receive.effort, &self.transmit.effort]
    }

    fn effort(&self) -> [Effort; 2] {
        // Each frame has a chain; so has one that the guest has sent in vain.
        let (received, sent) = (self.receive.read(), self.transmit.read());
        let chains = [received.frames, sent.frames + sent.drops.total()];
        let [receive, transmit] = self.efforts().map(EffortTally::read);
        [receive.with_chains(chains[0]), transmit.with_chains(chains[1])]
    }
}

impl Traffic {
    /// Both together.
    fn and(self, other: Self) -> Self {
        self.with(other, u64::wrapping_add)
    }

    /// What passed since `earlier`, when these counters of the same card stood so.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        self.with(earlier, u64::wrapping_sub)
    }

    fn with(self, other: Self, f: fn(u64, u64) -> u64) -> Self {
        Self {
            frames: f(self.frames, other.frames),
            bytes: f(self.bytes, other.bytes),
            drops: self.drops.with(other.drops, f),
        }
    }
}

impl Drops {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Self { length, header, refused, filtered, inactive, link_down } = self;
        length + header + refused + filtered + inactive + link_down
    }

    fn with(self, other: Self, f: fn(u64, u64) -> u64) -> Self {
        Self {
            length: f(self.length, other.length),
            header: f(self.header, other.header),
            refused: f(self.refused, other.refused),
            filtered: f(self.filtered, other.filtered),
            inactive: f(self.inactive, other.inactive),
            link_down: f(self.link_down, other.link_down),
        }
    }
}

impl Tally {
    /// A frame of `len` bytes has passed.
    pub(crate) fn pass(&self, len: usize) {
        self.frames.add(1);
        self.bytes.add(len as u64);
    }

    /// A frame was dropped.
    pub(crate) fn drop(&self, reason: Reason) {
        self.drops[reason as usize].add(1);
    }

    fn read(&self) -> Traffic {
        let dropped = |reason| self.drops[reason as usize].get();
        Traffic {
            frames: self.frames.get(),
            bytes: self.bytes.get(),
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
        counters.tally(1).receive.pass(50);
        let since = counters.receive().since(all);
        assert_eq!((since.frames, since.bytes, since.drops), (1, 50, Drops::default()));
    }

    #[test]
    fn so_is_what_it_took() {
        let counters = Counters::new(2);
        counters.tally(0).receive.pass(100);
        counters.tally(0).receive.effort.more_chains.add(2);
        counters.tally(1).receive.pass(100);
        counters.tally(1).transmit.drop(Reason::Header);
        counters.tally(1).transmit.effort.empty_calls.add(1);
        let [receive, transmit] = counters.effort();
        assert_eq!((receive.chains, transmit.chains, transmit.empty_calls), (4, 1, 1));
        assert_eq!(counters.effort_of_pair(0)[0].chains, 3);
        assert_eq!(counters.effort_of_pair(2), [Effort::default(); 2]);
    }
}
