//! What every device has to do.

use cubie_virtio_net::{Loopback, Mac, Net};

cubie_testkit::conformance!(|| Box::new(Net::new(
    Loopback::new().unwrap(),
    Mac::made_from("test")
)));
