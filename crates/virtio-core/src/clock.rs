//! What time it is, and who wakes a handler later.

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// A timer is never set further ahead: the kernel's time ends somewhere.
const FARTHEST: Duration = Duration::from_secs(1 << 32);

/// A device's clock: the host's, or one that a test moves, so that no test waits for time to pass.
///
/// Whoever makes the device chooses it, and the device makes a timer of it for each of its handlers. What
/// a device remembers across stop and start (a limit, a pause) it remembers in this clock's time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Time since the clock began; never less than before.
    fn now(&self) -> Duration;

    /// Another timer, which is not set.
    ///
    /// # Errors
    /// When the host has no descriptor for it.
    fn timer(&self) -> io::Result<Box<dyn Timer>>;
}

/// Wakes a handler at a time, as one of its sources: `Source::readable(&timer.as_fd(), TOKEN)`.
///
/// Its descriptor becomes readable, for edge-triggered epoll, and need not be read. A handler may be woken
/// for nothing, as by every source: it looks at the clock.
pub trait Timer: AsFd + Debug + Send + 'static {
    /// Wakes when the clock says `at`, at once if it does already, and not at the time set before.
    fn set(&mut self, at: Duration);
}

/// The host's time, which goes on while nobody looks (`CLOCK_MONOTONIC`).
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    start: Instant,
}

impl Default for HostClock {
    /// A clock that begins now.
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for HostClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn timer(&self) -> io::Result<Box<dyn Timer>> {
        Ok(Box::new(HostTimer::new(*self)?))
    }
}

#[derive(Debug)]
struct HostTimer {
    clock: HostClock,
    timer: OwnedFd,
}

impl HostTimer {
    fn new(clock: HostClock) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { clock, timer: timerfd_create(TimerfdClockId::Monotonic, flags)? })
    }
}

impl AsFd for HostTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

impl Timer for HostTimer {
    fn set(&mut self, at: Duration) {
        // No time at all would not set it, but stop it.
        let left = at.saturating_sub(self.clock.now());
        let left = left.clamp(Duration::from_nanos(1), FARTHEST);
        // Fails only for times that are none.
        if let Ok(it_value) = left.try_into() {
            let once = Itimerspec { it_interval: Timespec::default(), it_value };
            let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Handler, Source, spawn};
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::time::timerfd_gettime;
    use std::sync::mpsc::{Sender, channel};

    const DEADLINE: Duration = Duration::from_secs(10);

    /// Sets its timer again and again, and tells when it woke.
    struct Ticking {
        clock: HostClock,
        timer: Box<dyn Timer>,
        woken: Sender<Duration>,
    }

    impl Handler for Ticking {
        fn sources(&self) -> Vec<Source> {
            vec![Source::readable(&self.timer.as_fd(), 0)]
        }
        fn ready(&mut self, _token: u32) {
            let now = self.clock.now();
            // Nobody listens any more at the end.
            let _ = self.woken.send(now);
            self.timer.set(now + Duration::from_millis(1));
        }
    }

    #[test]
    fn a_timer_wakes_its_handler_each_time_it_is_set_and_not_before_its_time() {
        let (woken, wakes) = channel();
        let clock = HostClock::default();
        let handler = Ticking { clock, timer: clock.timer().unwrap(), woken };
        let running = spawn("ticking", handler).map_err(|(error, _)| error).unwrap();
        let mut last = wakes.recv_timeout(DEADLINE).unwrap();
        for _ in 0..5 {
            let now = wakes.recv_timeout(DEADLINE).unwrap();
            assert!(now >= last + Duration::from_millis(1), "{last:?}, then {now:?}");
            last = now;
        }
        running.stop();
    }

    #[test]
    fn a_time_that_is_past_wakes_at_once_and_the_end_of_time_never() {
        let clock = HostClock::default();
        let mut timer = HostTimer::new(clock).unwrap();
        let fires = |timer: &HostTimer, within: Duration| {
            let within = within.try_into().unwrap();
            poll(&mut [PollFd::new(&timer.timer, PollFlags::IN)], Some(&within)).unwrap() == 1
        };
        timer.set(Duration::MAX);
        assert!(timerfd_gettime(&timer.timer).unwrap().it_value.tv_sec > 0, "it is set");
        assert!(!fires(&timer, Duration::ZERO));
        timer.set(Duration::ZERO);
        assert!(fires(&timer, DEADLINE));
    }
}
