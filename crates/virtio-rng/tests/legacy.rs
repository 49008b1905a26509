//! The device behind the legacy interface, through the driver of `virtio_drivers`.

use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, within};
use cubie_virtio_rng::{HostEntropy, Rng};
use virtio_drivers::device::rng::VirtIORng;

#[test]
fn a_legacy_driver_gets_bytes_that_differ() {
    within(Duration::from_secs(20), || {
        let slot = Guest::new().socket().legacy().plug(Box::new(Rng::new(HostEntropy)));
        let mut driver = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
        let mut twice = [[0; 32]; 2];
        for bytes in &mut twice {
            assert_eq!(driver.request_entropy(bytes), Ok(32));
        }
        assert!(twice[0] != twice[1] && twice[0] != [0; 32]);
    });
}
