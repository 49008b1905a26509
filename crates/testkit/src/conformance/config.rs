//! The configuration space.

use cubie_virtio_core::Features;
use virtio_bindings::virtio_mmio::VIRTIO_MMIO_CONFIG;
use virtio_drivers::transport::Transport;

use super::load::Bench;
use super::{Make, sockets};
use crate::beside::beside;
use crate::garbage::Random;
use crate::{Guest, RegisterTransport};

/// Whole readings of the space.
const READINGS: usize = 1000;
/// Stores into it.
const STORES: usize = 500;

/// One thread changes all bytes at once, the driver reads them one by one, and the generation before and
/// after (VIRTIO 1.4 §2.5.1).
pub fn a_driver_never_reads_a_mixture_of_two_configurations(make: Make) {
    let guest = Guest::new();
    for socket in sockets(&guest) {
        let bench = Bench::new(socket, make);
        let len = bench.slot.config().len();
        let mut load = bench.drive(Features::RING, u16::MAX);
        let config = bench.slot.config();
        config.update(|bytes| bytes.fill(0));
        let mut values = (0..=u8::MAX).cycle();
        let change = || config.update(|bytes| bytes.fill(values.next().unwrap_or_default()));
        beside(change, || {
            for _ in 0..READINGS {
                let bytes = read_config(load.driver.transport(), len);
                let mixture = bytes.windows(2).any(|pair| pair[0] != pair[1]);
                assert!(!mixture, "of one generation: {bytes:x?}");
            }
        });
        load.check_alive();
    }
}

/// As a driver reads it: again when the generation has changed meanwhile.
fn read_config(transport: &RegisterTransport, len: usize) -> Vec<u8> {
    loop {
        let before = transport.read_config_generation();
        let byte = |at| transport.read_config_space::<u8>(at).unwrap_or(0);
        let bytes = (0..len).map(byte).collect();
        if transport.read_config_generation() == before {
            return bytes;
        }
    }
}

/// Stores of any width at any place, within the space and beyond its end.
pub fn a_driver_may_write_anything_into_the_configuration(make: Make) {
    let guest = Guest::new();
    for socket in sockets(&guest) {
        let bench = Bench::new(socket, make);
        let room = bench.slot.config().len() as u64 + 8;
        let mut load = bench.drive(Features::RING, u16::MAX);
        let mut random = Random(room);
        for _ in 0..STORES {
            let offset = u64::from(VIRTIO_MMIO_CONFIG) + random.below(room);
            let bytes = random.next().to_le_bytes();
            let len = 1 << random.below(4);
            load.driver.transport().write_bytes(offset, &bytes[..len]);
        }
        load.round();
    }
}
