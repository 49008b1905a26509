//! The packed ring, against a device written from the standard's text.

use std::sync::Arc;

use crate::bench::Bench;
use crate::history::*;
use crate::model::{Model, Place};
use cubie_virtq::driver::{Buffer, DriverQueue, Used};
use cubie_virtq::{Features, QueueParams};
use proptest::prelude::*;
use vm_memory::{GuestAddress, GuestMemoryMmap};

const ONE: [Buffer; 1] = [Buffer::writable(DATA, 8)];

fn features() -> impl Strategy<Value = Features> {
    prop::sample::subsequence(vec![EVENT_IDX, INDIRECT, IN_ORDER], 0..=3)
        .prop_map(|all| all.into_iter().fold(PACKED, Features::with))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_standards_device_and_our_driver_understand_each_other(
        size in prop::sample::select(vec![1u16, 2, 3, 7, 16, 100]),
        features in features(),
        steps in steps(),
    ) {
        let memory = memory();
        let driver = driver(&memory, size, features);
        let device = Model::new(&memory, size, features);
        Bench::new(memory, driver, device, features).run(steps);
    }
}

#[test]
fn any_size_goes_round_many_times() {
    // Miri takes seconds for what takes milliseconds.
    let (sizes, rounds): (&[u16], _) =
        if cfg!(miri) { (&[1, 3, 7], 6) } else { (&[1, 2, 3, 7, 100, 128], 500) };
    for &size in sizes {
        let memory = memory();
        let mut driver = driver(&memory, size, PACKED);
        let mut device = Model::new(&memory, size, PACKED);
        for round in 0..rounds {
            // Chains of one, two, … descriptors: chains begin and end everywhere in the ring.
            let buffers = ONE.repeat(1 + round % usize::from(size.min(5)));
            let mut tokens = vec![];
            while let Some(token) = driver.add(&buffers) {
                tokens.push(token);
            }
            assert!(usize::from(driver.free()) < buffers.len(), "as many as there is room for");
            driver.publish();
            for _ in &tokens {
                assert!(device.take().is_some(), "size {size}, round {round}");
            }
            assert_eq!(device.take(), None);
            for token in tokens.iter().rev() {
                device.complete(vec![(device.taken.len() - 1, vec![1; 8])]);
                let used = Used { token: *token, written: 8 };
                assert_eq!(driver.pop_used(), Some(used), "size {size}, round {round}");
            }
            assert_eq!((driver.pop_used(), driver.free()), (None, size));
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "32768 descriptors are too many for Miri")]
fn the_largest_ring_can_be_full() {
    let size = 1 << 15;
    let features = PACKED.with(EVENT_IDX);
    let (params, bytes) = QueueParams::contiguous(RING, size, features);
    let regions = [(GuestAddress(0), (RING + bytes) as usize)];
    let memory = Arc::new(GuestMemoryMmap::from_ranges(&regions).unwrap());
    let mut driver = DriverQueue::new(memory, params, features).unwrap();
    for _ in 0..size {
        assert!(driver.add(&ONE).is_some());
    }
    assert_eq!((driver.add(&ONE), driver.free()), (None, 0));
    driver.publish();
    assert!(driver.wants_kick());
    assert_eq!(driver.notification(), 0, "a lap further, the wrap counter has turned over");
}

#[test]
fn a_batch_becomes_visible_by_its_first_flags() {
    let memory = memory();
    let mut driver = driver(&memory, 8, PACKED);
    let mut device = Model::new(&memory, 8, PACKED);
    for _ in 0..3 {
        driver.add(&ONE).unwrap();
    }
    assert_eq!(device.take(), None, "nothing is published");
    let flags = |index| device.descriptor(RING, index).flags;
    assert_eq!((flags(0), flags(1), flags(2)), (0, 1 << 7 | 2, 1 << 7 | 2));
    driver.publish();
    for _ in 0..3 {
        assert!(device.take().is_some());
    }
}

#[test]
fn a_device_that_wants_no_kick_gets_none() {
    let memory = memory();
    let features = PACKED.with(EVENT_IDX);
    let mut driver = driver(&memory, 8, features);
    let mut device = Model::new(&memory, 8, features);
    let kicked = |driver: &mut DriverQueue| {
        driver.add(&ONE).unwrap();
        driver.publish();
        driver.wants_kick()
    };
    device.write_events(Place::START, 1);
    assert!(!kicked(&mut driver), "disabled");
    device.write_events(Place::START, 0);
    assert!(kicked(&mut driver), "enabled");
    device.write_events(Place { offset: 3, wrap: true }, 2);
    let kicks: Vec<_> = (2..7).map(|_| kicked(&mut driver)).collect();
    assert_eq!(kicks, [false, true, false, false, false], "one place only");
    device.write_events(Place { offset: 7, wrap: false }, 2);
    assert!(!kicked(&mut driver), "the same place, a lap later");
    while device.take().is_some() {}
    device.complete(vec![(0, vec![0; 8])]);
    assert!(driver.pop_used().is_some());
}

#[test]
fn a_place_of_the_next_lap_is_not_reached_by_laps_nobody_asked_about() {
    let memory = memory();
    let features = PACKED.with(EVENT_IDX);
    let mut driver = driver(&memory, 3, features);
    let mut device = Model::new(&memory, 3, features);
    for _ in 0..11 {
        driver.add(&ONE).unwrap();
        driver.publish();
        assert!(device.take().is_some());
        device.complete(vec![(0, vec![])]);
        assert!(driver.pop_used().is_some());
    }
    // Three laps and two descriptors: the next lap's wrap counter is 1 again.
    device.write_events(Place { offset: 0, wrap: true }, 2);
    assert!(!driver.wants_kick());
}

#[test]
fn notification_data_names_the_next_place() {
    let memory = memory();
    let mut driver = driver(&memory, 3, PACKED);
    let next = |driver: &DriverQueue| driver.notification() >> 16;
    assert_eq!(next(&driver), 0x8000);
    driver.add(&ONE.repeat(2)).unwrap();
    assert_eq!(next(&driver), 0x8002);
    driver.add(&ONE).unwrap();
    assert_eq!(next(&driver), 0x0000);
}
