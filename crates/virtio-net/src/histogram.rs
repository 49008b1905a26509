//! How long something took, by powers of two.

/// Counts of times: bucket n has those from 2ⁿ to less than 2ⁿ⁺¹ nanoseconds, the first those of 0 as well, and
/// the last all longer ones (from 2 seconds on).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram(pub [u64; Self::BUCKETS]);

impl Histogram {
    /// How many there are.
    pub const BUCKETS: usize = 32;

    /// Times that were counted.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Nanoseconds that this `part` of the times, from 0 to 1, did not reach: an upper bound by a power of two.
    /// `None` if none was counted.
    pub fn below(&self, part: f64) -> Option<u64> {
        let wanted = (part * self.count() as f64).ceil().max(1.0) as u64;
        let mut counted = 0;
        let bucket = self.0.iter().position(|count| {
            counted += count;
            counted >= wanted
        });
        bucket.map(|bucket| 2 << bucket)
    }

    /// Where this time is counted.
    pub(crate) fn bucket(nanos: u64) -> usize {
        (nanos.max(1).ilog2() as usize).min(Self::BUCKETS - 1)
    }

    pub(crate) fn with(&self, other: &Self, f: fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|bucket| f(self.0[bucket], other.0[bucket])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_has_its_bucket() {
        for (nanos, bucket) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (1023, 9), (u64::MAX, 31)] {
            assert_eq!(Histogram::bucket(nanos), bucket, "{nanos} ns");
        }
    }

    #[test]
    fn parts_of_the_times_lie_below_a_power_of_two() {
        assert_eq!(Histogram::default().below(0.5), None);
        let mut times = Histogram::default();
        (times.0[3], times.0[10]) = (9, 1);
        assert_eq!(times.below(0.0), Some(16));
        assert_eq!(times.below(0.9), Some(16));
        assert_eq!(times.below(0.91), Some(2048));
        assert_eq!(times.below(1.0), Some(2048));
    }
}
