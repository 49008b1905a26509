//! When to try again what has not helped.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use cubie_virtio_core::{Clock, Timer};

/// Between two attempts: at first, and at most.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// More and more rarely.
pub(super) struct Retry {
    clock: Box<dyn Clock>,
    timer: Box<dyn Timer>,
    /// Not before.
    next: Duration,
    /// From the next attempt to the one behind.
    pause: Duration,
}

impl Retry {
    pub(super) fn new(clock: Box<dyn Clock>) -> io::Result<Self> {
        let timer = clock.timer()?;
        let next = clock.now();
        Ok(Self { clock, timer, next, pause: PAUSE })
    }

    pub(super) fn is_due(&self) -> bool {
        self.clock.now() >= self.next
    }

    /// An attempt is made.
    pub(super) fn begin(&mut self) {
        self.next = self.clock.now() + self.pause;
        self.pause = (2 * self.pause).min(LONGEST);
    }

    /// Another one is wanted: the timer wakes when it is due.
    pub(super) fn wait(&mut self) {
        self.timer.set(self.next);
    }

    /// The last one was good for something: the next may come soon after it.
    pub(super) fn is_well(&mut self) {
        self.pause = PAUSE;
    }
}

impl AsFd for Retry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
