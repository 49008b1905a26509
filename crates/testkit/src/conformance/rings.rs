//! Rings of every kind and size.

use cubie_virtio_core::Features;

use super::load::Bench;
use super::{Make, ring_features, sockets};
use crate::Guest;

/// Rounds of garbage for each choice of features.
const ROUNDS: usize = 3;

/// Both ring formats, with and without what else shapes them, all and none of the device's features.
pub fn garbage_in_every_kind_of_ring_is_answered_within_its_buffers(make: Make) {
    let guest = Guest::new();
    for socket in sockets(&guest) {
        let bench = Bench::new(socket, make);
        for ring in ring_features() {
            for features in [ring, ring.with(bench.features)] {
                let mut load = bench.drive(features, u16::MAX);
                (0..ROUNDS).for_each(|_| _ = load.round());
            }
        }
    }
}

/// Split rings of all powers of two, packed ones of every size up to 4 and around the powers of two.
pub fn queues_of_every_size_work(make: Make) {
    let guest = Guest::new();
    for socket in sockets(&guest) {
        let bench = Bench::new(socket, make);
        let most = bench.sizes.iter().copied().max().unwrap_or(0);
        for power in (0..16).map(|shift| 1u16 << shift).take_while(|size| *size <= most) {
            bench.drive(Features::default(), power).round();
            for size in [power - 1, power, power + 1] {
                if (1..=most).contains(&size) {
                    bench.drive(Features::PACKED, size).round();
                }
            }
        }
    }
}
