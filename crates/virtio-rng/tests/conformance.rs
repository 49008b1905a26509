//! What every device has to do.

use cubie_virtio_rng::{HostEntropy, Rng};

cubie_testkit::conformance!(|| Box::new(Rng::new(HostEntropy)));
