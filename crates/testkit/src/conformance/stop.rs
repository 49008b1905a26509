//! A device that is stopped while it is at work.

use cubie_virtio_core::Features;
use virtio_drivers::transport::{DeviceStatus, Transport};

use super::image::Image;
use super::load::Bench;
use super::{Make, sockets};
use crate::Guest;

/// Resets for each ring format.
const RESETS: usize = 60;
/// Kicks of each queue of a device that was reset.
const LATE_KICKS: usize = 200;

pub(super) const RINGS: [Features; 2] = [Features::RING, Features::RING.with(Features::PACKED)];

/// The driver offers buffers, kicks and resets, again and again.
pub fn a_reset_under_load_returns_and_the_device_starts_again(make: Make) {
    let guest = Guest::new();
    for socket in sockets(&guest) {
        let bench = Bench::new(socket, make);
        for round in 0..RESETS {
            let mut load = bench.drive(RINGS[round % 2].with(bench.features), u16::MAX);
            for _ in 0..round % 4 {
                load.offer();
                load.kick();
            }
        }
        bench.drive(Features::RING, u16::MAX).round();
    }
}

/// One queue after the other is taken back, while the device serves its others.
pub fn each_queue_is_reset_and_set_up_anew_under_load(make: Make) {
    let guest = Guest::new();
    for socket in sockets(&guest) {
        let bench = Bench::new(socket, make);
        for ring in RINGS {
            let mut load = bench.drive(ring, u16::MAX);
            for (queue, size) in bench.sizes.iter().enumerate().cycle().take(4 * bench.sizes.len())
            {
                load.offer();
                load.kick();
                load.reset_queue(queue);
                load.check_alive();
                load.driver.renew_queue(queue, (size / 2).max(1));
                load.round();
            }
        }
    }
}

/// Whoever kicks it, a device that was reset leaves guest memory alone.
pub fn after_a_reset_nothing_is_written(make: Make) {
    let guest = Guest::new();
    for socket in sockets(&guest) {
        let bench = Bench::new(socket, make);
        for ring in RINGS {
            let mut load = bench.drive(ring, u16::MAX);
            load.round();
            load.offer();
            load.kick();
            load.driver.transport().set_status(DeviceStatus::empty());
            let then = Image::new(guest.memory());
            for _ in 0..LATE_KICKS {
                load.kick();
                for kick in bench.slot.kicks() {
                    kick.write(1).expect("room for a kick");
                }
                std::thread::yield_now();
            }
            then.check(guest.memory(), &[]);
        }
    }
}
