//! What it took to move frames.

use std::sync::atomic::{AtomicU64, Ordering};

use cubie_virtq::Signals;

use crate::kicks::Kicks;
use crate::samples::{SampleTally, Samples};

/// What it took to move what went one way, as far as this process did it.
///
/// Nothing is counted twice: of system calls at a tap, for example, there was one for each frame that passed, that
/// came and was dropped, or that the host refused, and those of [`Effort::empty_calls`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Kicks of the driver, also those that the kernel serves. `None` where the host does not tell
    /// (`/proc/self/fdinfo`).
    pub kicks: Option<u64>,
    /// Wake-ups of the worker by the driver's kicks: kicks that come while it works wake it once.
    pub woken_by_kicks: u64,
    /// Wake-ups by the host: a frame has come, or there is room for one. Counted for what comes from the host.
    pub woken_by_host: u64,
    /// Kicks of the queue's own, since a turn was long enough. They wake the worker as the driver's do.
    pub own_kicks: u64,
    /// Chains of buffers that frames came in or went into.
    pub chains: u64,
    /// Batches that had something for the driver.
    pub batches: u64,
    /// Interrupts.
    pub interrupts: u64,
    /// Calls of the host end that moved nothing: it had no frame, or no room for one.
    pub empty_calls: u64,
    /// Frames that had to wait for more of the driver's buffers after they had come.
    pub held: u64,
    /// Turns that ended because the driver had no buffer for a frame.
    pub starved: u64,
    /// Bytes of frames that were copied within this process. The kernel's copy is not one of these.
    pub copied: u64,
    /// How long it took, looked at from time to time.
    pub samples: Samples,
}

/// Where one thread at a time counts.
#[derive(Debug, Default)]
pub(crate) struct EffortTally {
    pub(crate) kicks: Kicks,
    pub(crate) woken_by_kicks: Counter,
    pub(crate) woken_by_host: Counter,
    pub(crate) own_kicks: Counter,
    /// Chains beyond the one that each frame has.
    pub(crate) more_chains: Counter,

    batches: Counter,
    interrupts: Counter,
    pub(crate) empty_calls: Counter,
    pub(crate) held: Counter,
    pub(crate) starved: Counter,
    copied: Counter,
    pub(crate) samples: SampleTally,
}

/// Written by one thread at a time: a load and a store are cheaper than one that others wait for.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Effort {
    /// Batches of which the driver did not want to be told, or was told together with others.
    pub fn suppressed(&self) -> u64 {
        self.batches.saturating_sub(self.interrupts)
    }

    /// What was done since `earlier`, when these counters of the same card stood so. (A kick of the card's own
    /// may be counted as the driver's for a moment, and is taken back.)
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    /// With so many more.
    pub(crate) fn with_chains(self, chains: u64) -> Self {
        Self { chains: self.chains + chains, ..self }
    }

    pub(crate) fn with(self, other: Self, f: fn(u64, u64) -> u64) -> Self {
        Self {
            kicks: self.kicks.zip(other.kicks).map(|(one, other)| f(one, other)),
            woken_by_kicks: f(self.woken_by_kicks, other.woken_by_kicks),
            woken_by_host: f(self.woken_by_host, other.woken_by_host),
            own_kicks: f(self.own_kicks, other.own_kicks),
            chains: f(self.chains, other.chains),
            batches: f(self.batches, other.batches),
            interrupts: f(self.interrupts, other.interrupts),
            empty_calls: f(self.empty_calls, other.empty_calls),
            held: f(self.held, other.held),
            starved: f(self.starved, other.starved),
            copied: f(self.copied, other.copied),
            samples: self.samples.with(other.samples, f),
        }
    }
}

impl EffortTally {
    /// What a turn came to: what the queue had to say, and the bytes that were copied.
    pub(crate) fn turn(&self, signals: Signals, copied: u64) {
        let Signals { batches, interrupts, own_kicks } = signals;
        for (counter, count) in [
            (&self.batches, batches),
            (&self.interrupts, interrupts),
            (&self.own_kicks, own_kicks),
            (&self.copied, copied),
        ] {
            if count > 0 {
                counter.add(count);
            }
        }
    }

    pub(crate) fn read(&self) -> Effort {
        let own_kicks = self.own_kicks.get();
        Effort {
            kicks: self.kicks.count().map(|all| all.saturating_sub(own_kicks)),
            woken_by_kicks: self.woken_by_kicks.get(),
            woken_by_host: self.woken_by_host.get(),
            own_kicks,
            chains: self.more_chains.get(),
            batches: self.batches.get(),
            interrupts: self.interrupts.get(),
            empty_calls: self.empty_calls.get(),
            held: self.held.get(),
            starved: self.starved.get(),
            copied: self.copied.get(),
            samples: self.samples.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_since_is_the_difference() {
        let tally = EffortTally::default();
        tally.turn(Signals { batches: 3, interrupts: 2, own_kicks: 1 }, 7);
        let before = tally.read();
        tally.turn(Signals { batches: 1, interrupts: 1, own_kicks: 0 }, 0);
        tally.more_chains.add(3);
        let since = tally.read().since(before);
        assert_eq!((since.interrupts, since.suppressed(), since.copied), (1, 0, 0));
        assert_eq!((since.batches, since.chains, before.suppressed()), (1, 3, 1));
        assert_eq!((before.copied, before.own_kicks), (7, 1));
    }
}
