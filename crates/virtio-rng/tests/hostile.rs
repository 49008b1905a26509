//! What no driver may do to the device.

use cubie_virtio_rng::{HostEntropy, Rng};

cubie_testkit::hostile!(|| Box::new(Rng::new(HostEntropy)));
