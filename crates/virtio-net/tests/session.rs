//! A session of the driver of `virtio_drivers` from another day. `CUBIE_RECORD=1` records it anew.

use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, Recording, within};
use cubie_virtio_net::{Loopback, Mac, Net};
use virtio_drivers::device::net::VirtIONetRaw;

const DEADLINE: Duration = Duration::from_secs(60);

fn card() -> Box<Net<Loopback>> {
    Box::new(Net::new(Loopback::new().unwrap(), Mac::made_from("test")))
}

/// Sends frames that come back, and one that is too short to.
fn session() -> Recording {
    let slot = Guest::new().socket().recorded().plug(card());
    let mut driver = VirtIONetRaw::<GuestHal, _, 16>::new(slot.transport()).unwrap();
    driver.send(b"too short").unwrap();
    for len in [14, 60, 200] {
        driver.send(&vec![len as u8; len]).unwrap();
        driver.receive_wait(&mut [0; 1526]).unwrap();
    }
    drop(driver);
    slot.recording()
}

#[test]
fn a_session_of_another_day_is_answered_as_it_was() {
    within(DEADLINE, || {
        let played = session().keep("tests/frames.session").unwrap().play(card()).unwrap();
        assert_eq!(played.chains, 7);
    });
}

#[test]
fn a_card_with_another_address_is_told_apart() {
    within(DEADLINE, || {
        let other = Net::new(Loopback::new().unwrap(), Mac::made_from("other"));
        let recording = session();
        let player = recording.player().waiting(Duration::from_millis(100));
        let difference = player.play(Box::new(other)).unwrap_err();
        assert!(difference.recorded().starts_with("reads  configuration 0x"), "{difference}");
    });
}
