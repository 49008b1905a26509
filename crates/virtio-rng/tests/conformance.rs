//! What every device has to do.

use std::num::NonZeroU64;

use cubie_testkit::VirtualClock;
use cubie_virtio_core::RateLimit;
use cubie_virtio_rng::{HostEntropy, Rng};

cubie_testkit::conformance!(|| Box::new(Rng::new(HostEntropy)));

/// Its buffers wait, most of them for good.
mod limited {
    use super::*;

    cubie_testkit::conformance!(|| {
        let [per_second, burst] = [1000, 10_000].map(|bytes| NonZeroU64::new(bytes).unwrap());
        let limit = RateLimit { per_second, burst };
        Box::new(Rng::limited(HostEntropy, limit).with_clock(VirtualClock::default()))
    });
}
