//! Where the time goes, looked at in one turn of many.

use std::array;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::Histogram;
use crate::effort::Counter;

/// One turn of so many is timed: clocks cost more than counters. A prime, so that it keeps no step with what
/// repeats.
const EVERY: u32 = 61;

/// Turns of the worker at a queue that were timed: one of 61, if it moved a frame. A turn begins when the worker
/// has been woken and comes to the queue: how long ago the guest has kicked is not known, since KVM notes no time.
/// By the wall clock: a worker whose CPU is taken away within a turn has a longer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// Turns.
    pub turns: u64,
    /// Frames that passed in them.
    pub frames: u64,
    /// Nanoseconds of all these turns.
    pub nanos: u64,
    /// Of these, within the host end: at a tap, in the system calls, and so in the host's stack.
    pub host: u64,
    /// Of these, to publish what was used and to interrupt the driver.
    pub interrupts: u64,
    /// From the beginning of a turn until all was published and the driver interrupted: kick to used, or frame
    /// to interrupt.
    pub turn: Histogram,
    /// A call of the host end.
    pub call: Histogram,
}

impl Samples {
    /// Nanoseconds of the worker's own work at the rings.
    pub fn rings(&self) -> u64 {
        self.nanos.saturating_sub(self.host + self.interrupts)
    }

    pub(crate) fn with(self, other: Self, f: fn(u64, u64) -> u64) -> Self {
        Self {
            turns: f(self.turns, other.turns),
            frames: f(self.frames, other.frames),
            nanos: f(self.nanos, other.nanos),
            host: f(self.host, other.host),
            interrupts: f(self.interrupts, other.interrupts),
            turn: self.turn.with(&other.turn, f),
            call: self.call.with(&other.call, f),
        }
    }
}

/// Where one thread at a time puts its samples.
#[derive(Debug, Default)]
pub(crate) struct SampleTally {
    turns: Counter,
    frames: Counter,
    nanos: Counter,
    host: Counter,
    interrupts: Counter,
    turn: [Counter; Histogram::BUCKETS],
    call: [Counter; Histogram::BUCKETS],
}

impl SampleTally {
    pub(crate) fn read(&self) -> Samples {
        let histogram = |counters: &[Counter; Histogram::BUCKETS]| {
            Histogram(array::from_fn(|bucket| counters[bucket].get()))
        };
        Samples {
            turns: self.turns.get(),
            frames: self.frames.get(),
            nanos: self.nanos.get(),
            host: self.host.get(),
            interrupts: self.interrupts.get(),
            turn: histogram(&self.turn),
            call: histogram(&self.call),
        }
    }
}

/// Chooses turns, and times them.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    /// Turns until the next one that is timed.
    left: u32,
    turn: Option<Turn>,
}

/// A turn that is timed.
#[derive(Debug)]
struct Turn {
    begun: Instant,
    /// When the last call of the host end was over.
    called: Instant,
    /// Nanoseconds in its calls, and in interrupts.
    host: u64,
    interrupts: u64,
    /// Frames that had passed before.
    frames: u64,
}

impl Sampler {
    /// A turn begins, before which so many `frames` have passed.
    pub(crate) fn begin(&mut self, frames: &Counter) {
        if self.left > 0 {
            self.left -= 1;
            return;
        }
        let (now, frames) = (Instant::now(), frames.get());
        self.turn = Some(Turn { begun: now, called: now, host: 0, interrupts: 0, frames });
    }

    /// Calls the host end.
    pub(crate) fn call<T>(&mut self, tally: &SampleTally, call: impl FnOnce() -> T) -> T {
        let Some(turn) = &mut self.turn else { return call() };
        let start = Instant::now();
        let result = call();
        turn.called = Instant::now();
        let took = nanos(turn.called - start);
        turn.host += took;
        tally.call[Histogram::bucket(took)].add(1);
        result
    }

    /// Signals the driver.
    pub(crate) fn signal(&mut self, signal: impl FnOnce()) {
        let Some(turn) = &mut self.turn else { return signal() };
        let start = Instant::now();
        signal();
        turn.interrupts += nanos(start.elapsed());
    }

    /// The queue itself has signalled the driver after the last call.
    pub(crate) fn signalled(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.interrupts += nanos(turn.called.elapsed());
        }
    }

    /// The turn is over. One that has moved nothing does not count, and the next has its turn to be timed.
    pub(crate) fn end(&mut self, tally: &SampleTally, frames: &Counter) {
        let Some(turn) = self.turn.take() else { return };
        let frames = frames.get().wrapping_sub(turn.frames);
        if frames == 0 {
            return;
        }
        self.left = EVERY - 1;
        let took = nanos(turn.begun.elapsed());
        tally.turns.add(1);
        tally.frames.add(frames);
        tally.nanos.add(took);
        tally.host.add(turn.host);
        tally.interrupts.add(turn.interrupts);
        tally.turn[Histogram::bucket(took)].add(1);
    }
}

/// Processor time of the thread that it is used on, looked at once in so many wake-ups.
#[derive(Debug, Default)]
pub(crate) struct ThreadClock {
    /// Wake-ups until the next look.
    left: u32,
    /// Nanoseconds at the last one.
    before: u64,
}

impl ThreadClock {
    /// The thread was woken: the nanoseconds that have come since the last look are added to `sum`. `false` if this
    /// was no time to look.
    pub(crate) fn woken(&mut self, sum: &Counter) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        self.left = EVERY - 1;
        let Ok(time) = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID) else { return false };
        let now = nanos(time.into());
        sum.add(now.saturating_sub(self.before));
        self.before = now;
        true
    }
}

pub(crate) fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(sampler: &mut Sampler, tally: &SampleTally, frames: &Counter, passes: u64) {
        sampler.begin(frames);
        for _ in 0..passes {
            sampler.call(tally, || frames.add(1));
        }
        sampler.signal(|| ());
        sampler.end(tally, frames);
    }

    #[test]
    fn the_first_turn_is_timed_and_then_one_of_many() {
        let (mut sampler, tally, frames) = Default::default();
        for _ in 0..=EVERY {
            turn(&mut sampler, &tally, &frames, 2);
        }
        let samples = tally.read();
        assert_eq!((samples.turns, samples.frames), (2, 4));
        assert_eq!((samples.turn.count(), samples.call.count()), (2, 4));
        assert!(samples.nanos >= samples.host + samples.interrupts);
        assert_eq!(samples.rings(), samples.nanos - samples.host - samples.interrupts);
    }

    #[test]
    fn a_thread_knows_how_long_it_has_run() {
        std::thread::spawn(|| {
            let (mut clock, nanos): (ThreadClock, Counter) = Default::default();
            assert!(clock.woken(&nanos));
            let first = nanos.get();
            (1..EVERY).for_each(|_| assert!(!clock.woken(&nanos)));
            assert!(first > 0 && nanos.get() == first, "once in so many");
            clock.woken(&nanos);
            assert!(nanos.get() > first);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn turns_for_nothing_do_not_count() {
        let (mut sampler, tally, frames) = Default::default();
        turn(&mut sampler, &tally, &frames, 0);
        assert_eq!(tally.read(), Samples::default());
        turn(&mut sampler, &tally, &frames, 1);
        assert_eq!(tally.read().turns, 1, "the next one does");
    }
}
