//! What every device has to do.

use cubie_virtio_net::{Loopback, Mac, Net};

cubie_testkit::conformance!(|| Box::new(Net::new(
    Loopback::new().unwrap(),
    Mac::made_from("test")
)));

/// A card with more than one pair.
mod several_pairs {
    use super::*;

    cubie_testkit::conformance!(|| {
        let ends = (0..3).map(|_| Loopback::new().unwrap()).collect();
        Box::new(Net::with_pairs(ends, Mac::made_from("test")).unwrap())
    });
}

/// A card that looks for frames by itself.
mod polling {
    use super::*;

    cubie_testkit::conformance!(|| {
        let net = Net::new(Loopback::new().unwrap(), Mac::made_from("test"));
        Box::new(net.with_polling(std::time::Duration::from_micros(50)))
    });
}
