//! Limits of a disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cubie_virtio_core::{Clock, RateLimit, Timer, TokenBucket};

/// How much of a disk its guest gets, all of its queues together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskLimits {
    /// Requests, of any kind.
    pub operations: Option<RateLimit>,
    /// Bytes that are read or written.
    pub bytes: Option<RateLimit>,
}

/// What of the limits is left. Clones share it, under a lock: a disk without limits has none of it.
#[derive(Clone, Debug)]
pub(crate) struct Throttle {
    clock: Arc<dyn Clock>,
    buckets: Arc<Mutex<Buckets>>,
}

#[derive(Debug)]
struct Buckets {
    operations: Option<TokenBucket>,
    bytes: Option<TokenBucket>,
}

/// A worker's share in it, with what wakes it.
#[derive(Debug)]
pub(crate) struct Pace {
    throttle: Throttle,
    pub(crate) timer: Box<dyn Timer>,
    /// When the request that waits may go on.
    due: Option<Duration>,
}

impl Throttle {
    /// Nothing is used yet. `None` when there is no limit.
    pub(crate) fn new(limits: DiskLimits, clock: Arc<dyn Clock>) -> Option<Self> {
        let DiskLimits { operations, bytes } = limits;
        if operations.is_none() && bytes.is_none() {
            return None;
        }
        let (operations, bytes) = (operations.map(TokenBucket::new), bytes.map(TokenBucket::new));
        Some(Self { clock, buckets: Arc::new(Mutex::new(Buckets { operations, bytes })) })
    }

    pub(crate) fn pace(&self) -> std::io::Result<Pace> {
        Ok(Pace { throttle: self.clone(), timer: self.clock.timer()?, due: None })
    }
}

impl Pace {
    /// Takes what a request of so many bytes needs. `false` when it is not there yet: the timer wakes the worker
    /// when it is, to ask again for the same request. What it waits for is its own meanwhile, so that no smaller
    /// ones of other queues take it again and again.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let Throttle { clock, buckets } = &self.throttle;
        let now = clock.now();
        let due = self.due.take().unwrap_or_else(|| {
            let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
            buckets.take(bytes as u64, now)
        });
        if due > now {
            self.due = Some(due);
            self.timer.set(due);
        }
        due <= now
    }
}

impl Buckets {
    /// Takes both, and says when they are there.
    fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let mut due = now;
        for (bucket, count) in [(&mut self.operations, 1), (&mut self.bytes, bytes)] {
            if let Some(bucket) = bucket.as_mut().filter(|_| count > 0) {
                due = due.max(bucket.ready_at(count));
                bucket.take(count, now);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU64;

    use cubie_testkit::VirtualClock;

    fn limit(per_second: u64) -> Option<RateLimit> {
        let per_second = NonZeroU64::new(per_second).unwrap();
        Some(RateLimit { per_second, burst: per_second })
    }

    fn buckets(limits: DiskLimits) -> Buckets {
        let DiskLimits { operations, bytes } = limits;
        Buckets { operations: operations.map(TokenBucket::new), bytes: bytes.map(TokenBucket::new) }
    }

    #[test]
    fn a_request_waits_for_the_later_of_two_limits() {
        let mut both = buckets(DiskLimits { operations: limit(2), bytes: limit(1000) });
        let now = Duration::from_secs(5);
        assert_eq!(both.take(1000, now), now);
        assert_eq!(both.take(500, now), now + Duration::from_millis(500));
        assert_eq!(both.take(0, now), now + Duration::from_millis(500), "the third operation");
    }

    #[test]
    fn a_limit_of_bytes_does_not_hold_up_what_has_none() {
        let mut bytes = buckets(DiskLimits { operations: None, bytes: limit(512) });
        let now = Duration::ZERO;
        assert_eq!(bytes.take(512, now), now);
        assert_eq!(bytes.take(512, now), Duration::from_secs(1));
        assert_eq!(bytes.take(0, now), now);
    }

    #[test]
    fn a_large_request_has_its_turn_among_many_small_ones() {
        let clock = VirtualClock::default();
        let limits = DiskLimits { operations: None, bytes: limit(1000) };
        let throttle = Throttle::new(limits, Arc::new(clock.clone())).unwrap();
        let [mut large, mut small] = [(); 2].map(|()| throttle.pace().unwrap());
        assert!(small.take(1));
        assert!(!large.take(1000) && !small.take(1));
        clock.advance(Duration::from_millis(1));
        assert!(large.take(1000) && !small.take(1));
    }
}
