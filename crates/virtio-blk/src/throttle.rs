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
        Ok(Pace { throttle: self.clone(), timer: self.clock.timer()? })
    }
}

impl Pace {
    /// Takes what a request of so many bytes needs. `false` when it is not there yet: the timer wakes the worker
    /// when it is.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let Throttle { clock, buckets } = &self.throttle;
        let now = clock.now();
        let due = {
            let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
            buckets.take(bytes as u64, now)
        };
        match due {
            Ok(()) => true,
            Err(due) => {
                self.timer.set(due);
                false
            }
        }
    }
}

impl Buckets {
    /// Takes both or none: when both will be there.
    fn take(&mut self, bytes: u64, now: Duration) -> Result<(), Duration> {
        let each = [(&mut self.operations, 1), (&mut self.bytes, bytes)];
        let each = each.map(|(bucket, count)| (bucket.as_mut(), count));
        let due = each.iter().filter_map(|(bucket, count)| Some(bucket.as_ref()?.ready_at(*count)));
        if let Some(due) = due.max().filter(|due| *due > now) {
            return Err(due);
        }
        for (bucket, count) in each {
            if let Some(bucket) = bucket {
                bucket.take(count, now);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU64;

    fn limit(per_second: u64) -> Option<RateLimit> {
        let per_second = NonZeroU64::new(per_second).unwrap();
        Some(RateLimit { per_second, burst: per_second })
    }

    fn buckets(limits: DiskLimits) -> Buckets {
        let DiskLimits { operations, bytes } = limits;
        Buckets { operations: operations.map(TokenBucket::new), bytes: bytes.map(TokenBucket::new) }
    }

    #[test]
    fn a_request_waits_for_the_later_of_two_limits_and_takes_of_both_or_none() {
        let mut both = buckets(DiskLimits { operations: limit(2), bytes: limit(1000) });
        let now = Duration::from_secs(5);
        assert_eq!(both.take(1000, now), Ok(()));
        assert_eq!(both.take(500, now), Err(now + Duration::from_millis(500)));
        assert_eq!(both.take(0, now), Ok(()), "the one that had to wait has taken nothing");
        assert_eq!(both.take(0, now), Err(now + Duration::from_millis(500)));
    }

    #[test]
    fn a_limit_of_bytes_does_not_hold_up_what_has_none() {
        let mut bytes = buckets(DiskLimits { operations: None, bytes: limit(512) });
        assert_eq!(bytes.take(512, Duration::ZERO), Ok(()));
        assert!(bytes.take(512, Duration::ZERO).is_err());
        assert!(bytes.take(0, Duration::from_secs(2)).is_ok());
    }
}
