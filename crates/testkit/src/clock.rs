//! Time that only a test moves.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use cubie_virtio_core::{Clock, Timer};
use rustix::event::{EventfdFlags, eventfd};

/// A clock that stands still until [`VirtualClock::advance`], for devices that wait: a test of an hour takes
/// a moment. Clones are the same clock.
///
/// ```
/// use std::time::Duration;
/// use cubie_testkit::VirtualClock;
/// use cubie_virtio_core::Clock;
///
/// let clock = VirtualClock::default();
/// let mut timer = clock.timer().unwrap(); // a handler's
/// timer.set(Duration::from_secs(3600));
/// assert_eq!(clock.wait_for_timer(Duration::from_secs(10)), Duration::from_secs(3600));
/// clock.advance(Duration::from_secs(3600)); // and the handler wakes
/// assert_eq!(clock.next_timer(), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// A timer was set.
    set: Condvar,
}

#[derive(Debug, Default)]
struct State {
    now: Duration,
    alarms: Vec<Alarm>,
}

/// A timer that is set.
#[derive(Debug)]
struct Alarm {
    at: Duration,
    /// Its handler may be gone.
    event: Weak<OwnedFd>,
}

impl VirtualClock {
    /// Lets so much time pass. Handlers whose timers are due wake.
    pub fn advance(&self, by: Duration) {
        let mut state = self.0.lock();
        state.now += by;
        state.ring();
    }

    /// When the next timer is due, if any is set.
    pub fn next_timer(&self) -> Option<Duration> {
        self.0.lock().next_timer()
    }

    /// Waits until a handler waits. When it is going to wake.
    ///
    /// # Panics
    /// When none has set its timer at the deadline.
    #[track_caller]
    pub fn wait_for_timer(&self, deadline: Duration) -> Duration {
        let end = Instant::now() + deadline;
        let mut state = self.0.lock();
        loop {
            if let Some(at) = state.next_timer() {
                return at;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no timer is set after {deadline:?}");
            let woken = self.0.set.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        self.0.lock().now
    }

    fn timer(&self) -> io::Result<Box<dyn Timer>> {
        Ok(Box::new(VirtualTimer::new(self)?))
    }
}

impl Shared {
    /// Time is whole between two calls, even when one of them has panicked.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_timer(&self) -> Option<Duration> {
        let alive = self.alarms.iter().filter(|alarm| alarm.event.strong_count() > 0);
        alive.map(|alarm| alarm.at).min()
    }

    /// Rings what is due, each once.
    fn ring(&mut self) {
        let now = self.now;
        for alarm in self.alarms.extract_if(.., |alarm| alarm.at <= now) {
            if let Some(event) = alarm.event.upgrade() {
                // The counter cannot overflow by ones.
                let _ = rustix::io::write(event, &1u64.to_ne_bytes());
            }
        }
    }
}

#[derive(Debug)]
struct VirtualTimer {
    clock: VirtualClock,
    event: Arc<OwnedFd>,
}

impl VirtualTimer {
    fn new(clock: &VirtualClock) -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { clock: clock.clone(), event: Arc::new(event) })
    }
}

impl AsFd for VirtualTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Timer for VirtualTimer {
    fn set(&mut self, at: Duration) {
        let Shared { state: _, set } = &*self.clock.0;
        let mut state = self.clock.0.lock();
        let event = Arc::downgrade(&self.event);
        state.alarms.retain(|alarm| !alarm.event.ptr_eq(&event));
        state.alarms.push(Alarm { at, event });
        state.ring();
        set.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn timers_ring_once_each_when_their_time_has_come() {
        let clock = VirtualClock::default();
        let [mut early, mut late] = [(); 2].map(|()| VirtualTimer::new(&clock).unwrap());
        let events = [&early, &late].map(|timer| timer.event.clone());
        let rung = || {
            [0, 1].map(|n| {
                let mut count = [0; 8];
                rustix::io::read(&events[n], &mut count).ok().map(|_| u64::from_ne_bytes(count))
            })
        };
        early.set(SECOND);
        late.set(2 * SECOND);
        assert_eq!((rung(), clock.next_timer()), ([None; 2], Some(SECOND)));
        clock.advance(SECOND);
        assert_eq!((rung(), clock.next_timer()), ([Some(1), None], Some(2 * SECOND)));
        clock.advance(10 * SECOND);
        assert_eq!((rung(), clock.next_timer()), ([None, Some(1)], None));
        early.set(20 * SECOND);
        early.set(5 * SECOND);
        assert_eq!((rung(), clock.next_timer()), ([Some(1), None], None), "its time is past");
    }

    #[test]
    fn a_timer_that_is_gone_is_not_waited_for() {
        let clock = VirtualClock::default();
        let mut timer = clock.timer().unwrap();
        timer.set(SECOND);
        drop(timer);
        assert_eq!(clock.next_timer(), None);
    }
}
