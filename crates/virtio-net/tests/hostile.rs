//! What no driver may do to the card.

use cubie_virtio_net::{Loopback, Mac, Net};

cubie_testkit::hostile!(|| Box::new(Net::new(Loopback::new().unwrap(), Mac::made_from("test"))));
