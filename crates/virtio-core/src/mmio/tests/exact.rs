//! What a driver writes when it may not, and where nothing is.

use cubie_mmio_bus::MmioDevice;

use super::{Bench, STATUS, VERSION_1};
use crate::Features;
use crate::mmio::queues::QueueSetup;

const PACKED: Features = Features::PACKED;

impl Bench {
    fn queue(&self) -> &QueueSetup {
        &self.registers.setup.queues[0]
    }
}

#[test]
fn features_beyond_64_bits_are_nobodys() {
    let mut bench = Bench::new();
    for (word, features) in [(0, 1 << 5), (1, 1), (2, !0), (0x8000_0001, !0), (!0, !0)] {
        if word == 0 {
            bench.set(STATUS, 1);
            bench.set(STATUS, 3);
        }
        bench.set(0x24, word);
        bench.set(0x20, features);
        bench.set(0x14, word);
        assert_eq!(bench.get(0x10) == 0, word > 1, "word {word:#x}");
    }
    bench.set(STATUS, 11);
    assert_eq!(bench.get(STATUS), 11);
    assert_eq!(bench.registers.setup.driver_features, Features(VERSION_1 | 1 << 5));
}

#[test]
fn rings_that_the_device_cannot_have_are_not_offered() {
    let Bench { registers, .. } = Bench::new();
    let all = Features::RING.with(PACKED).with(Features::IN_ORDER);
    let offered = registers.with_rings(all).offered();
    assert_eq!(offered.and(all), Features::RING.with(PACKED));
    assert!(offered.has(Features::bit(5)), "its own features are another matter");
}

#[test]
fn a_refusal_leaves_the_steps_before_it_and_another_try() {
    let mut bench = Bench::new();
    for hurry in [11, 15] {
        bench.set(STATUS, hurry);
        assert_eq!(bench.get(STATUS), 3, "without VERSION_1");
    }
    bench.set(STATUS, 7);
    assert_eq!(bench.get(STATUS), 3, "DRIVER_OK does not come before FEATURES_OK");
    bench.set(0x24, 1);
    bench.set(0x20, 1);
    bench.set(STATUS, 11);
    assert_eq!(bench.get(STATUS), 11);
}

#[test]
fn features_are_chosen_by_a_driver_before_features_ok() {
    let mut bench = Bench::new();
    bench.set(0x24, 1);
    bench.set(0x20, 1);
    bench.set(STATUS, 1);
    bench.set(0x20, 1);
    bench.set(STATUS, 11);
    assert_eq!(bench.get(STATUS), 3, "before DRIVER they do not count");
    bench.negotiate(VERSION_1);
    bench.set(0x24, 0);
    bench.set(0x20, 1 << 5);
    assert_eq!(bench.registers.setup.driver_features, Features(VERSION_1), "frozen");
}

#[test]
fn a_driver_that_gave_up_is_heard_again_after_a_reset() {
    let mut bench = Bench::new();
    bench.negotiate(VERSION_1);
    bench.set(STATUS, 0x8b);
    assert_eq!(bench.get(STATUS), 0x8b);
    bench.set(STATUS, 15);
    bench.set(0x80, 0x1000);
    bench.set(0x44, 1);
    assert_eq!((bench.get(STATUS), bench.get(0x44), bench.queue().params.desc), (0x8b, 0, 0));
    bench.drive();
    assert_eq!(bench.get(STATUS), 15);
}

#[test]
fn status_bits_that_do_not_exist_are_not_set_and_no_reset_either() {
    let mut bench = Bench::new();
    bench.drive();
    for value in [0x3f, 0x8000_000f, 0x10f] {
        bench.set(STATUS, value);
        assert_eq!(bench.get(STATUS), 15, "{value:#x}");
    }
    for value in [0x10, 0x20, 0x40, 0x100, 1 << 31] {
        bench.set(STATUS, value);
        assert_eq!(bench.get(STATUS), 15, "{value:#x}");
    }
}

#[test]
fn a_ready_queue_stays_where_it_is() {
    let mut bench = Bench::new();
    bench.negotiate(VERSION_1);
    bench.set(0x80, 0x1000);
    bench.set(0x38, 4);
    bench.set(0x44, 1);
    bench.set(0x80, 0x2000);
    bench.set(0x38, 8);
    assert_eq!((bench.queue().params.desc, bench.queue().params.size), (0x1000, 4));
    bench.set(0x44, 0);
    bench.set(0x80, 0x2000);
    assert_eq!((bench.get(0x44), bench.queue().params.desc), (0, 0x2000), "before DRIVER_OK");
}

#[test]
fn only_a_one_makes_a_queue_ready() {
    let mut bench = Bench::new();
    bench.negotiate(VERSION_1);
    for value in [2, 3, 0x101, !0] {
        bench.set(0x44, value);
        assert_eq!(bench.get(0x44), 0, "{value:#x}");
    }
    bench.set(0x44, 1);
    bench.set(0x44, 2);
    assert_eq!(bench.get(0x44), 1);
}

#[test]
fn a_size_beyond_the_largest_is_not_taken() {
    let mut bench = Bench::new();
    bench.negotiate(VERSION_1);
    for bad in [9, 0x1_0004, !0] {
        bench.set(0x38, bad);
        assert_eq!(bench.queue().params.size, 8);
    }
}

#[test]
fn a_size_that_no_ring_has_asks_for_a_reset_at_the_start() {
    for (rings, size, status) in [
        (Features::default(), 0, 0x4f),
        (Features::default(), 3, 0x4f),
        (Features::default(), 4, 15),
        (PACKED, 0, 0x4f),
        (PACKED, 3, 15),
    ] {
        let mut bench = Bench::new();
        bench.registers = bench.registers.with_rings(rings);
        bench.negotiate(VERSION_1 | rings.0);
        bench.set(0x38, size);
        for (offset, address) in [(0x80, 0x1000), (0x90, 0x2000), (0xa0, 0x3000), (0x44, 1)] {
            bench.set(offset, address);
        }
        bench.set(STATUS, 15);
        assert_eq!(bench.get(STATUS), status, "{size} descriptors");
    }
}

#[test]
fn odd_widths_and_offsets_of_registers_read_zero_and_write_nothing() {
    let mut bench = Bench::new();
    bench.negotiate(VERSION_1);
    let before = (0..0x100).step_by(4).map(|at| bench.get(at)).collect::<Vec<_>>();
    for offset in 0..0x100 {
        for width in [1, 2, 3, 4, 5, 8, 16] {
            if width == 4 && offset % 4 == 0 {
                continue;
            }
            let mut data = vec![0xee; width];
            bench.registers.read(offset, &mut data);
            assert_eq!(data, vec![0; width], "{width} bytes at {offset:#x}");
            for byte in [0, 1, 0xff] {
                bench.registers.write(offset, &vec![byte; width]);
            }
        }
    }
    let after = (0..0x100).step_by(4).map(|at| bench.get(at)).collect::<Vec<_>>();
    assert_eq!(after, before);
}

#[test]
fn configuration_is_read_in_any_width_and_ends_in_zeros() {
    let mut bench = Bench::new();
    let mut bytes = [0; 0x100];
    bytes[..4].copy_from_slice(&[1, 2, 3, 4]);
    for offset in 0..8 {
        for width in [1, 2, 4, 8] {
            let mut data = vec![0xee; width];
            bench.registers.read(0x100 + offset as u64, &mut data);
            assert_eq!(data, bytes[offset..offset + width], "{width} bytes at {offset}");
        }
    }
    let mut last = [0xee; 8];
    for offset in [0x1ff, u64::MAX] {
        bench.registers.read(offset, &mut last);
        assert_eq!(last, [0; 8]);
    }
}

#[test]
fn configuration_is_written_in_any_width_and_not_beyond_its_end() {
    for (offset, data, expected) in [
        (0, &[9][..], [9, 2, 3, 4]),
        (1, &[9, 8], [1, 9, 8, 4]),
        (0, &[9, 8, 7, 6], [9, 8, 7, 6]),
        (3, &[9, 8], [1, 2, 3, 9]),
        (0, &[9; 8], [9; 4]),
        (2, &[9; 8], [1, 2, 9, 9]),
        (4, &[9; 8], [1, 2, 3, 4]),
        (0xff, &[9], [1, 2, 3, 4]),
        (u64::MAX - 0x100, &[9; 8], [1, 2, 3, 4]),
    ] {
        let mut bench = Bench::new();
        bench.registers.write(0x100 + offset, data);
        assert_eq!(bench.get(0x100).to_le_bytes(), expected, "{} at {offset:#x}", data.len());
    }
}
