//! A limit that lets short bursts pass.

use std::num::NonZeroU64;
use std::time::Duration;

const NANOS_A_SECOND: u128 = 1_000_000_000;

/// So much a second, and so much at once: bytes, frames, requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// In the long run.
    pub per_second: NonZeroU64,
    /// At once, after a pause that is long enough.
    pub burst: NonZeroU64,
}

/// What of a [`RateLimit`] can be had now.
///
/// A bucket that holds a burst at most, and fills evenly. In no time span is more taken out of it than a
/// burst and what the span brings, when all wait until it is [ready](TokenBucket::ready_at). What cannot
/// be had in parts may be larger than a burst: it waits for a full bucket, takes more than there is, and
/// the next one waits the longer.
///
/// It knows no clock: times are those of the caller's. They are rounded to nanoseconds, each time
/// against the caller.
///
/// ```
/// use std::num::NonZeroU64;
/// use std::time::Duration;
/// use cubie_virtio_core::{RateLimit, TokenBucket};
///
/// let [per_second, burst] = [10, 100].map(|n| NonZeroU64::new(n).unwrap());
/// let mut bucket = TokenBucket::new(RateLimit { per_second, burst });
/// let now = Duration::from_secs(7);
/// assert!(bucket.ready_at(100) <= now, "it begins full");
/// bucket.take(100, now);
/// assert_eq!(bucket.ready_at(20), Duration::from_secs(9));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    limit: RateLimit,
    /// When it is full if nothing more is taken. The one number says all: how much is missing now, and
    /// when enough will be there.
    full: Duration,
}

impl TokenBucket {
    /// A full one.
    pub fn new(limit: RateLimit) -> Self {
        Self { limit, full: Duration::ZERO }
    }

    /// Its limit.
    pub fn limit(&self) -> RateLimit {
        self.limit
    }

    /// From when on `count` can be taken; what is larger than a burst, when the bucket is full.
    pub fn ready_at(&self, count: u64) -> Duration {
        let spare = self.limit.burst.get().saturating_sub(count);
        self.full.saturating_sub(self.fills_in(spare, |whole, part| whole / part))
    }

    /// Takes `count`, whether it is there or not: what is missing is owed.
    pub fn take(&mut self, count: u64, now: Duration) {
        let refill = self.fills_in(count, u128::div_ceil);
        self.full = self.full.max(now).saturating_add(refill);
    }

    /// How long it takes for so much to come in, rounded as `divide` has it.
    fn fills_in(&self, count: u64, divide: fn(u128, u128) -> u128) -> Duration {
        let rate = self.limit.per_second;
        let (seconds, rest) = (count / rate, count % rate);
        let nanos = divide(u128::from(rest) * NANOS_A_SECOND, rate.get().into());
        // The rest is less than what a second brings.
        Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bucket(per_second: u64, burst: u64) -> TokenBucket {
        let [per_second, burst] = [per_second, burst].map(|n| NonZeroU64::new(n).unwrap());
        TokenBucket::new(RateLimit { per_second, burst })
    }

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_bucket_begins_full_and_never_holds_more_than_a_burst() {
        let mut bucket = bucket(10, 30);
        for now in [secs(0), secs(1000), secs(2000)] {
            assert!(bucket.ready_at(30) <= now);
            bucket.take(30, now);
            assert_eq!(bucket.ready_at(1), now + Duration::from_millis(100));
            assert_eq!(bucket.ready_at(30), now + secs(3));
        }
    }

    #[test]
    fn what_is_larger_than_a_burst_waits_for_a_full_bucket_and_owes_the_rest() {
        let mut bucket = bucket(10, 20);
        assert!(bucket.ready_at(100) <= secs(5));
        bucket.take(100, secs(5));
        assert_eq!(bucket.ready_at(1), secs(5 + 8) + Duration::from_millis(100));
        assert_eq!(bucket.ready_at(100), secs(5 + 10));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut slow = bucket(1, u64::MAX);
        slow.take(u64::MAX, secs(u64::MAX));
        assert_eq!(slow.ready_at(0), slow.full - secs(u64::MAX));
        let mut fast = bucket(u64::MAX, 1);
        fast.take(1, secs(1));
        assert_eq!(fast.ready_at(1), secs(1) + Duration::from_nanos(1));
    }

    proptest! {
        /// Whoever waits as told gets a burst at most and what has come in since, and whoever had to wait
        /// has got just that.
        #[test]
        fn nobody_gets_more_than_the_limit_nor_waits_for_longer_than_it_takes(
            rate in 1..10_000u64,
            burst in 1..10_000u64,
            counts in prop::collection::vec(1..10_000u64, 1..50),
        ) {
            let mut bucket = bucket(rate, burst);
            let (mut now, mut taken) = (Duration::ZERO, 0);
            for count in counts.into_iter().map(|count| count.min(burst)) {
                let ready = bucket.ready_at(count);
                let waits = ready > now;
                now = now.max(ready);
                bucket.take(count, now);
                taken += u128::from(count);
                let most = u128::from(burst) + now.as_nanos() * u128::from(rate) / NANOS_A_SECOND;
                prop_assert!(taken <= most);
                // Each round costs two nanoseconds at most, in all of them less than one at this rate.
                prop_assert!(!waits || taken + 2 > most);
            }
        }
    }
}
