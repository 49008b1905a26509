//! For how long a pair looks by itself before it sleeps: as long as that pays, and no longer than it may.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use cubie_virtio_core::Clock;

/// Nobody looks for longer, so that a mistaken unit does not cost a host a CPU.
pub(crate) const MOST: Duration = Duration::from_millis(10);

/// It looks for this part of the longest time, or not at all.
const LEAST: u32 = 16;

/// When to look on.
#[derive(Debug)]
pub(crate) struct Poller {
    clock: Arc<dyn Clock>,
    /// The longest time it may look.
    most: Duration,
    /// How long it looks now.
    window: Duration,
    /// When there was something to do last.
    last: Duration,
    /// The driver was told that it need not kick.
    pub(crate) looks: bool,
    /// Since when it has been looking and has not found anything.
    since: Option<Duration>,
    /// How long it has looked in vain, of which nobody was told yet.
    in_vain: Duration,
}

impl Poller {
    /// One that begins with the longest time.
    pub(crate) fn new(clock: Arc<dyn Clock>, most: Duration) -> Self {
        let last = clock.now();
        let in_vain = Duration::ZERO;
        Self { clock, most, window: most, last, looks: false, since: None, in_vain }
    }

    /// There was something to do. If looking on would have found it, that is done for twice as long from now on; if
    /// it came later, for half as long.
    pub(crate) fn worked(&mut self) {
        let now = self.clock.now();
        self.since = None;
        let least = self.most / LEAST;
        self.window = match now.saturating_sub(self.last) <= self.most {
            true => (2 * self.window).clamp(least, self.most),
            false => Some(self.window / 2).filter(|half| *half >= least).unwrap_or_default(),
        };
        self.last = now;
    }

    /// Whether it may still pay. What has passed since it did, if there was nothing to do meanwhile, was in vain.
    pub(crate) fn goes_on(&mut self) -> bool {
        let now = self.clock.now();
        if let Some(since) = self.since.take() {
            self.in_vain += now.saturating_sub(since);
        }
        let goes_on = now.saturating_sub(self.last) < self.window;
        self.since = goes_on.then_some(now);
        goes_on
    }

    /// How long it has looked in vain since this was asked last.
    pub(crate) fn take_in_vain(&mut self) -> Duration {
        mem::take(&mut self.in_vain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cubie_testkit::VirtualClock;

    const USEC: Duration = Duration::from_micros(1);

    /// For how long the poller looks after there was something to do, each time after one of `gaps`.
    fn windows(gaps: &[u32]) -> Vec<u32> {
        let clock = VirtualClock::default();
        let mut poller = Poller::new(Arc::new(clock.clone()), 160 * USEC);
        let mut window = |gap: &u32| {
            clock.advance(*gap * USEC);
            poller.worked();
            (poller.window.as_nanos() / 1000) as u32
        };
        gaps.iter().map(&mut window).collect()
    }

    #[test]
    fn what_comes_too_late_shortens_the_time_and_what_comes_early_lengthens_it() {
        assert_eq!(windows(&[1, 159, 160]), [160; 3], "no longer than it may");
        assert_eq!(windows(&[161; 6]), [80, 40, 20, 10, 0, 0]);
        assert_eq!(windows(&[500, 500, 5, 100, 5]), [80, 40, 80, 160, 160]);
        let after_none = [&[1000; 5][..], &[160, 3, 3, 3, 3, 3]].concat();
        assert_eq!(windows(&after_none)[5..], [10, 20, 40, 80, 160, 160], "it begins again");
    }

    #[test]
    fn it_looks_until_the_time_has_passed_since_there_was_something_to_do() {
        let clock = VirtualClock::default();
        let mut poller = Poller::new(Arc::new(clock.clone()), 100 * USEC);
        clock.advance(99 * USEC);
        assert!(poller.goes_on());
        poller.worked();
        clock.advance(99 * USEC);
        assert!(poller.goes_on());
        clock.advance(USEC);
        assert!(!poller.goes_on());
    }

    #[test]
    fn the_time_is_in_vain_in_which_there_was_nothing_to_do() {
        let clock = VirtualClock::default();
        let mut poller = Poller::new(Arc::new(clock.clone()), 100 * USEC);
        let look = |poller: &mut Poller, usecs: u32| {
            clock.advance(usecs * USEC);
            poller.goes_on();
            poller.take_in_vain().as_micros()
        };
        let in_vain = [10, 5, 7].map(|usecs| look(&mut poller, usecs));
        assert_eq!(in_vain, [0, 5, 7], "before the first there was something else");
        clock.advance(20 * USEC);
        poller.worked();
        let in_vain = [3, 40, 60, 80].map(|usecs| look(&mut poller, usecs));
        assert_eq!(in_vain, [0, 40, 60, 0], "after the last but one it sleeps");
    }
}
