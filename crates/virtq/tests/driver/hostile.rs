//! Devices that break the ring: the driver latches what they did, and reads as empty.

use std::sync::Arc;

use crate::history::*;
use crate::model::{Model, Place};
use cubie_virtq::driver::{Buffer, DriverError, DriverQueue};
use cubie_virtq::{Features, QueueError, QueueParams};
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const SIZE: u16 = 4;
const ONE: [Buffer; 1] = [Buffer::writable(DATA, 8)];
const SPLIT: Features = Features::VERSION_1;

/// A split ring with one chain (token 0) published and one (token 1) only added.
struct Split {
    memory: Arc<GuestMemoryMmap>,
    driver: DriverQueue,
}

impl Split {
    fn new(features: Features) -> Self {
        let memory = memory();
        let mut driver = driver(&memory, SIZE, features);
        assert_eq!(driver.add(&ONE), Some(0));
        driver.publish();
        assert_eq!(driver.add(&ONE), Some(1));
        Self { memory, driver }
    }

    fn write_used(&self, slot: u64, token: u32, written: u32) {
        let at = params(SIZE, SPLIT).device + 4 + 8 * slot;
        self.memory.write_obj([token.to_le(), written.to_le()], GuestAddress(at)).unwrap();
    }

    fn write_index(&self, index: u16) {
        let at = params(SIZE, SPLIT).device + 2;
        self.memory.write_obj(index.to_le(), GuestAddress(at)).unwrap();
    }
}

#[track_caller]
fn broken(mut driver: DriverQueue, error: DriverError) {
    assert_eq!((driver.pop_used(), driver.error()), (None, Some(error)));
    assert_eq!(driver.pop_used(), None, "latched");
    assert!(!driver.enable_interrupts(), "nothing will come");
}

#[test]
fn a_used_index_beyond_what_is_in_flight_latches() {
    for index in [2, 5, 0x8000, 0xffff] {
        let split = Split::new(SPLIT);
        split.write_index(index);
        broken(split.driver, DriverError::UsedIndex { index, next: 0, in_flight: 1 });
    }
    let mut split = Split::new(SPLIT);
    split.write_index(2);
    assert!(!split.driver.enable_interrupts(), "found here as well");
    assert!(split.driver.error().is_some());
}

#[test]
fn a_chain_that_is_not_in_flight_cannot_be_used() {
    // Never made, not published yet, no descriptor at all.
    for token in [3, 1, 4, 0x1_0000, u32::MAX] {
        let split = Split::new(SPLIT);
        split.write_used(0, token, 0);
        split.write_index(1);
        broken(split.driver, DriverError::Token(token));
    }
    let mut split = Split::new(SPLIT);
    split.driver.publish();
    (0..2).for_each(|slot| split.write_used(slot, 0, 8));
    split.write_index(2);
    assert!(split.driver.pop_used().is_some());
    broken(split.driver, DriverError::Token(0));
}

#[test]
fn no_more_can_be_written_than_there_is_room_for() {
    let split = Split::new(SPLIT);
    split.write_used(0, 0, 9);
    split.write_index(1);
    broken(split.driver, DriverError::Length { token: 0, written: 9, room: 8 });
}

#[test]
fn an_in_order_device_keeps_the_order() {
    let mut split = Split::new(IN_ORDER);
    split.driver.publish();
    // The second chain stands for two, but the index says that there is one.
    split.write_used(0, 1, 8);
    split.write_index(1);
    broken(split.driver, DriverError::Order(1));
}

#[test]
fn a_packed_ring_checks_ids_and_lengths_too() {
    let wrong = |id, written, error| {
        let memory = memory();
        let mut driver = driver(&memory, 3, PACKED);
        assert_eq!(driver.add(&ONE), Some(0));
        driver.publish();
        assert_eq!(driver.add(&ONE), Some(1));
        Model::new(&memory, 3, PACKED).write_used(id, written);
        broken(driver, error);
    };
    wrong(2, 8, DriverError::Token(2));
    wrong(1, 8, DriverError::Token(1));
    wrong(3, 8, DriverError::Token(3));
    wrong(0xffff, 8, DriverError::Token(0xffff));
    wrong(0, 9, DriverError::Length { token: 0, written: 9, room: 8 });
}

#[test]
fn a_packed_device_that_uses_what_it_was_not_given_is_found_out() {
    let memory = memory();
    let mut driver = driver(&memory, 3, PACKED);
    Model::new(&memory, 3, PACKED).write_used(0, 0);
    assert!(driver.add(&ONE).is_some());
    broken(driver, DriverError::Token(0));
}

#[test]
fn without_the_write_flag_the_length_of_a_used_descriptor_says_nothing() {
    let memory = memory();
    let mut driver = driver(&memory, 3, PACKED);
    driver.add(&ONE).unwrap();
    driver.publish();
    let model = Model::new(&memory, 3, PACKED);
    model.write_used(0, 77);
    model.write16(RING + 14, 1 << 7 | 1 << 15);
    assert_eq!(driver.pop_used().map(|used| used.written), Some(0));
}

#[test]
fn rings_that_cannot_be_are_refused() {
    let refused = |params, features, error| {
        assert_eq!(DriverQueue::new(memory(), params, features).unwrap_err(), error);
    };
    for size in [0, 3, 0x8001] {
        let (params, _) = QueueParams::contiguous(RING, size, SPLIT);
        refused(params, SPLIT, QueueError::Size(size));
    }
    for size in [0, 0x8001] {
        let (params, _) = QueueParams::contiguous(RING, size, PACKED);
        refused(params, PACKED, QueueError::Size(size));
    }
    let fine = params(SIZE, SPLIT);
    let (part, address, align) = ("available ring", fine.driver + 1, 2);
    let askew = QueueParams { driver: address, ..fine };
    refused(askew, SPLIT, QueueError::Alignment { part, address, align });
    let (part, address) = ("used ring", 1 << 40);
    refused(QueueParams { device: address, ..fine }, SPLIT, QueueError::Ring { part, address });
}

#[test]
fn a_table_outside_of_memory_is_no_chain() {
    for features in [SPLIT.with(INDIRECT), PACKED.with(INDIRECT)] {
        let mut driver = driver(&memory(), SIZE, features);
        for table in [1 << 40, DATA + 4, u64::MAX] {
            assert_eq!(driver.add_indirect(&ONE, table), None);
        }
        assert_eq!(driver.add_indirect(&[], TABLES), None);
        assert_eq!((driver.free(), driver.add_indirect(&ONE, TABLES)), (SIZE, Some(0)));
    }
}

proptest! {
    #![proptest_config(cases())]

    /// A device that writes anything at all gets no more out of the driver than it was given.
    #[test]
    fn arbitrary_bytes_never_panic(
        packed: bool,
        in_order: bool,
        event_idx: bool,
        rounds in prop::collection::vec(prop::collection::vec((0u64..0x100, any::<u8>()), 0..40), 1..20),
    ) {
        let chosen = [(packed, PACKED), (in_order, IN_ORDER), (event_idx, EVENT_IDX)];
        let chosen = chosen.into_iter().filter(|(yes, _)| *yes);
        let features = chosen.fold(SPLIT, |all, (_, feature)| all.with(feature));
        let memory = memory();
        let mut driver = driver(&memory, SIZE, features);
        let (mut given, mut back) = (0, 0);
        for bytes in rounds {
            while driver.add(&ONE).is_some() {
                given += 1;
            }
            driver.publish();
            for (offset, byte) in bytes {
                memory.write_obj(byte, GuestAddress(RING + offset)).unwrap();
            }
            let _ = driver.wants_kick();
            while let Some(used) = driver.pop_used() {
                prop_assert!(used.token < SIZE && used.written <= 8);
                back += 1;
            }
            let _ = driver.enable_interrupts();
            prop_assert!(back <= given && driver.free() <= SIZE);
        }
    }
}

#[test]
fn an_event_place_outside_of_the_ring_is_only_a_place_never_reached() {
    let memory = memory();
    let features = PACKED.with(EVENT_IDX);
    let mut driver = driver(&memory, 3, features);
    let model = Model::new(&memory, 3, features);
    for (offset, wrap) in [(3, true), (0x7fff, true), (0x7fff, false)] {
        model.write_events(Place { offset, wrap }, 2);
        assert!(driver.add(&ONE).is_some());
        driver.publish();
        assert!(!driver.wants_kick());
    }
}
