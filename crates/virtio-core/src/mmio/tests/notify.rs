//! Kicks that come through the register.

use super::{Bench, VERSION_1};
use crate::Features;

const NOTIFY: u64 = 0x50;

/// How often each queue was kicked since the last look.
fn kicks(bench: &Bench) -> [u64; 2] {
    let of = |queue: usize| bench.registers.kicks()[queue].read().unwrap_or(0);
    [of(0), of(1)]
}

#[test]
fn a_kick_reaches_its_queue_once_started() {
    let mut bench = Bench::new();
    bench.set(NOTIFY, 1);
    assert_eq!(kicks(&bench), [0, 0], "not before DRIVER_OK");
    bench.drive();
    bench.set(NOTIFY, 1);
    assert_eq!(kicks(&bench), [0, 1]);
}

#[test]
fn no_other_value_names_a_queue() {
    let mut bench = Bench::new();
    bench.drive();
    for value in [2, 7, 0x1_0000, 0x1_0001, 0x8000_0001, !0] {
        bench.set(NOTIFY, value);
        assert_eq!(kicks(&bench), [0, 0], "{value:#x}");
    }
}

#[test]
fn a_kick_with_data_names_its_queue_in_the_lower_half() {
    for ring in [Features::default(), Features::PACKED] {
        let chosen = ring.with(Features::NOTIFICATION_DATA);
        let mut bench = Bench::new();
        bench.registers = bench.registers.with_rings(chosen);
        bench.drive_with(VERSION_1 | chosen.0);
        // The upper half: an available index, or an offset below a wrap counter.
        for position in [0, 1, 0x7fff, 0x8000, 0x8007, 0xffff] {
            bench.set(NOTIFY, position << 16 | 1);
            assert_eq!(kicks(&bench), [0, 1], "{position:#x}");
        }
        bench.set(NOTIFY, 1 << 16);
        assert_eq!(kicks(&bench), [1, 0]);
        bench.set(NOTIFY, 1 << 16 | 2);
        assert_eq!(kicks(&bench), [0, 0]);
    }
}

#[test]
fn data_is_offered_only_when_asked_for() {
    let mut bench = Bench::new();
    bench.negotiate(VERSION_1 | Features::NOTIFICATION_DATA.0);
    assert_eq!(bench.get(super::STATUS), 3);
}
