//! What every device has to do, and what none may suffer.

use cubie_virtio_new_device::{InMemory, NewDevice};

cubie_testkit::conformance!(|| Box::new(NewDevice::new(InMemory::default(), 100)));
cubie_testkit::hostile!(|| Box::new(NewDevice::new(InMemory::default(), 100)));
