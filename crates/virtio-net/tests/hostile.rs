//! What no driver may do to the card.

use cubie_virtio_net::{Loopback, Mac, Net};

cubie_testkit::hostile!(|| Box::new(Net::new(Loopback::new().unwrap(), Mac::made_from("test"))));

/// A card with more than one pair.
mod several_pairs {
    use super::*;

    cubie_testkit::hostile!(|| {
        let ends = (0..3).map(|_| Loopback::new().unwrap()).collect();
        Box::new(Net::with_pairs(ends, Mac::made_from("test")).unwrap())
    });
}
