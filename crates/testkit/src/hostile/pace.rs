//! How fast another thread goes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, Thread};

/// Turns that the other thread may take for one step of the first.
const TURNS: u32 = 8;

/// Keeps a thread beside another one: it has a few turns for each of the other's steps, and rests when it has
/// taken them, instead of the processors that a device works on.
#[derive(Debug, Default)]
pub(super) struct Pace {
    left: AtomicU32,
    other: OnceLock<Thread>,
}

impl Pace {
    /// The first thread has taken a step, or waits for something.
    pub(super) fn step(&self) {
        self.left.store(TURNS, Ordering::SeqCst);
        if let Some(other) = self.other.get() {
            other.unpark();
        }
    }

    /// The other one may take a turn. False after a rest: then it may be that the first has come to its
    /// end. One that begins just now may rest for a step too many.
    pub(super) fn turn(&self) -> bool {
        self.other.get_or_init(thread::current);
        // Nobody else takes any.
        let free = self.left.load(Ordering::SeqCst) > 0;
        match free {
            true => _ = self.left.fetch_sub(1, Ordering::SeqCst),
            false => thread::park(),
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::within;
    use std::time::Duration;

    #[test]
    fn each_step_allows_a_few_turns_and_no_more() {
        let pace = Pace::default();
        for _ in 0..3 {
            pace.step();
            assert!((0..TURNS).all(|_| pace.turn()));
            // The next one would rest.
            thread::current().unpark();
            assert!(!pace.turn());
        }
    }

    #[test]
    fn a_step_ends_a_rest() {
        within(Duration::from_secs(10), || {
            let pace = Pace::default();
            thread::scope(|scope| {
                let other = scope.spawn(|| (0..1000).filter(|_| pace.turn()).count());
                while !other.is_finished() {
                    pace.step();
                    thread::yield_now();
                }
                assert!(other.join().is_ok_and(|turns| turns > 0));
            });
        });
    }
}
