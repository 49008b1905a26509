//! Snapshots: a new device goes on where another one was.

use std::time::{Duration, Instant};

use cubie_virtio_core::{Features, Interface, MMIO_SIZE, QueueStage, SavedQueue, TransportState};
use cubie_virtq::{QueueParams, QueueState};
use virtio_bindings::virtio_mmio::VIRTIO_MMIO_STATUS;

use super::image::Image;
use super::init::{RUNNING, initialisation};
use super::load::Bench;
use super::{Make, ring_features, sockets};
use crate::garbage::Random;
use crate::{Guest, Slot};

/// Snapshots for each choice of features.
const SNAPSHOTS: usize = 6;
/// Longest time that a device runs between two.
const RUN: Duration = Duration::from_micros(300);
/// An interrupt that was not lost is there by then.
const ANNOUNCED: Duration = Duration::from_secs(30);
/// Damaged states of the device's own that are tried.
const DAMAGES: usize = 300;

/// All that a driver can read.
fn registers(slot: &Slot) -> Vec<u32> {
    (0..MMIO_SIZE as u32).step_by(4).map(|offset| slot.register(offset)).collect()
}

fn move_on(slot: &mut Slot, make: Make, state: &TransportState) {
    slot.restore(make(), state).expect("a state of such a device");
}

fn resume(slot: &Slot) {
    slot.resume().expect("the device goes on");
}

/// One initialisation, of which each store finds another device.
pub fn a_snapshot_at_every_step_of_the_initialisation_restores_the_same_registers(make: Make) {
    let guest = Guest::new();
    for socket in sockets(&guest) {
        let mut bench = Bench::new(socket, make);
        let mut transport = bench.slot.transport();
        for (offset, value) in initialisation(&bench) {
            transport.write(offset, value);
            let before = registers(&bench.slot);
            let state = bench.slot.save();
            move_on(&mut bench.slot, make, &state);
            let after = registers(&bench.slot);
            assert_eq!(after, before, "all registers, {value:#x} stored at {offset:#x}");
            resume(&bench.slot);
        }
        assert_eq!(transport.read(VIRTIO_MMIO_STATUS), RUNNING, "in the end");
        drop(transport);
        bench.drive(Features::RING, u16::MAX).round();
    }
}

/// The driver never pauses: what it offers and kicks meanwhile is not forgotten either.
pub fn snapshots_under_load_lose_no_chain_and_complete_none_twice(make: Make) {
    let guest = Guest::new();
    let mut random = Random(2);
    for socket in sockets(&guest) {
        let mut bench = Bench::new(socket, make);
        for ring in ring_features() {
            let mut load = bench.drive(ring.with(bench.features), u16::MAX);
            for number in 0..SNAPSHOTS {
                load.offer();
                load.kick();
                let end = Instant::now() + RUN.mul_f64(random.below(100) as f64 / 100.0);
                while Instant::now() < end {
                    load.take_back();
                    std::thread::yield_now();
                }
                let state = bench.slot.save();
                load.take_back();
                load.check_states(&state.queues);
                load.offer();
                load.kick();
                if number == 0 {
                    check_still(&guest, &bench.slot);
                }
                if number % 3 != 1 {
                    move_on(&mut bench.slot, make, &state);
                }
                resume(&bench.slot);
                load.check_alive();
            }
            load.round();
        }
    }
}

/// A device that was saved leaves memory alone, whoever kicks it.
fn check_still(guest: &Guest, slot: &Slot) {
    let then = Image::new(guest.memory());
    for kick in slot.kicks() {
        kick.write(1).expect("room for a kick");
        std::thread::yield_now();
    }
    then.check(guest.memory(), &[]);
}

/// The driver reads what it would have read, and its interrupt is raised once more.
pub fn a_configuration_that_changed_is_restored_and_told(make: Make) {
    let guest = Guest::new();
    for socket in sockets(&guest) {
        let mut bench = Bench::new(socket, make);
        let mut load = bench.drive(Features::RING, u16::MAX);
        bench.slot.config().update(|bytes| bytes.fill(0x5a));
        let state = bench.slot.save();
        // A device may have changed it once more when it stopped.
        let before = registers(&bench.slot);
        move_on(&mut bench.slot, make, &state);
        assert_eq!(registers(&bench.slot), before);
        let mut bytes = vec![0; state.config.len()];
        bench.slot.config().read(0, &mut bytes);
        assert_eq!(bytes, state.config, "the device's own handle");
        // The machine that was interrupted is gone.
        let _ = bench.slot.interrupt().read();
        resume(&bench.slot);
        bench.slot.wait_interrupt(ANNOUNCED);
        load.check_alive();
    }
}

/// How a state becomes that of another device.
const OTHERS: [fn(&mut TransportState); 6] = [
    |state| state.version += 1,
    |state| state.device.0 += 1,
    |state| state.offered.0 ^= 1 << 63,
    |state| state.queues.push(QUEUE),
    |state| state.config.push(0),
    |state| state.interface = Interface::Legacy,
];

const QUEUE: SavedQueue = SavedQueue {
    max: 1,
    stage: QueueStage::Unused,
    params: QueueParams { size: 1, desc: 0, driver: 0, device: 0 },
    align: 4096,
    state: QueueState { next_avail: 0, next_used: 0 },
    broken: false,
};

/// And the device that was there goes on.
pub fn a_state_of_another_device_is_refused(make: Make) {
    let guest = Guest::new();
    for socket in sockets(&guest) {
        let mut bench = Bench::new(socket, make);
        let mut load = bench.drive(Features::RING, u16::MAX);
        load.round();
        let state = bench.slot.save();
        let before = registers(&bench.slot);
        for change in OTHERS {
            let mut other = state.clone();
            change(&mut other);
            let restored = bench.slot.restore(make(), &other);
            assert!(restored.is_err(), "{other:x?}");
            assert_eq!(registers(&bench.slot), before);
        }
        resume(&bench.slot);
        load.round();
    }
}

/// A new device says what it was told, and one that refuses what it was told says what it said before.
pub fn a_device_takes_all_of_its_own_state_or_nothing(make: Make) {
    let guest = Guest::new();
    let bench = Bench::new(guest.socket(), make);
    let mut load = bench.drive(bench.features, u16::MAX);
    load.round();
    let own = bench.slot.save().own;
    let mut device = make();
    device.restore(&own).expect("the state of such a device");
    assert_eq!(device.save(), own, "what was restored");
    let (mut device, mut random) = (make(), Random(3));
    for _ in 0..DAMAGES {
        let before = device.save();
        let damaged = damage(&own, &mut random);
        match device.restore(&damaged) {
            Ok(()) => device = make(),
            Err(_) => assert_eq!(device.save(), before, "refused: {damaged:x?}"),
        }
    }
}

/// Some bytes are different, some are missing, or some are too many.
fn damage(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = random.below(bytes.len() as u64 + 1) as usize;
    match random.below(3) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, random.next() as u8),
        _ => bytes.iter_mut().skip(at).take(2).for_each(|byte| *byte = random.next() as u8),
    }
    bytes
}
