//! A session of the driver of `virtio_drivers` from another day. `CUBIE_RECORD=1` records it anew.

use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, Recording, within};
use cubie_virtio_rng::{HostEntropy, Rng};
use virtio_drivers::device::rng::VirtIORng;

const DEADLINE: Duration = Duration::from_secs(60);

/// Asks for bytes of several lengths, twice from the beginning.
fn session() -> Recording {
    let slot = Guest::new().socket().recorded().plug(Box::new(Rng::new(HostEntropy)));
    for _ in 0..2 {
        let mut driver = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
        for len in [1, 32, 100] {
            driver.request_entropy(&mut vec![0; len]).unwrap();
            slot.wait_interrupt(DEADLINE);
        }
    }
    slot.recording()
}

#[test]
fn a_session_of_another_day_is_answered_as_it_was_but_for_the_bytes() {
    within(DEADLINE, || {
        let recording = session().keep("tests/entropy.session").unwrap();
        let same = || Box::new(Rng::new(HostEntropy));
        let played = recording.player().ignoring_payload().play(same()).unwrap();
        assert_eq!(played.chains, 6);
        let difference = recording.play(same()).unwrap_err();
        assert!(difference.now().contains(" is "), "the bytes are others: {difference}");
    });
}
