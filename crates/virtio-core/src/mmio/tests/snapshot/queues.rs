//! Queues that are not simply at work.

use std::sync::Arc;

use cubie_mmio_bus::MmioDevice;
use cubie_virtq::driver::{Buffer, DriverQueue};
use cubie_virtq::{QueueParams, Virtqueue};
use cubie_vm_irq::Interrupt;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::super::queue_reset::{Pair, Taken, serve};
use super::super::{STATUS, VERSION_1};
use crate::mmio::MmioTransport;
use crate::{Config, Features};

/// A driver of a [`Pair`] in which the test is both ends.
struct Bench {
    registers: MmioTransport,
    memory: Arc<GuestMemoryMmap>,
    taken: Taken,
    queues: [DriverQueue; 2],
}

fn plug(memory: &Arc<GuestMemoryMmap>) -> (MmioTransport, Taken) {
    let taken = Taken::default();
    let pair = Box::new(Pair(Config::default(), taken.clone()));
    (MmioTransport::new(pair, memory.clone(), Interrupt::silent()).unwrap(), taken)
}

const FEATURES: Features = Features(VERSION_1).with(Features::RING_RESET);

fn params(queue: u64) -> QueueParams {
    QueueParams::contiguous(0x1000 * (queue + 1), 8, FEATURES).0
}

impl Bench {
    fn new() -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
        let memory = Arc::new(memory);
        let (registers, taken) = plug(&memory);
        let queues =
            [0, 1].map(|queue| DriverQueue::new(memory.clone(), params(queue), FEATURES).unwrap());
        let mut bench = Self { registers, memory, taken, queues };
        for (offset, value) in [(STATUS, 1), (STATUS, 3), (0x24, 1), (0x20, 0x101), (STATUS, 11)] {
            bench.set(offset, value);
        }
        for queue in 0..2 {
            bench.set_up(queue);
        }
        bench.set(STATUS, 15);
        bench
    }

    fn set_up(&mut self, queue: u32) {
        let QueueParams { size, desc, driver, device } = params(queue.into());
        self.set(0x30, queue);
        let place = [(0x38, size.into()), (0x80, desc), (0x90, driver), (0xa0, device), (0x44, 1)];
        place.iter().for_each(|(offset, value)| self.set(*offset, *value as u32));
    }

    fn set(&mut self, offset: u64, value: u32) {
        self.registers.write(offset, &value.to_le_bytes());
    }

    fn get(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.registers.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// A chain goes there and comes back; false when the device does not see it.
    fn round_trip(&mut self, queue: usize) -> bool {
        let Some(token) = self.queues[queue].add(&[Buffer::writable(0x8000, 16)]) else {
            return false;
        };
        self.queues[queue].publish();
        serve(&self.taken, queue) && self.queues[queue].pop_used().unwrap().token == token
    }

    /// The device goes on in another machine, whose memory has the same content.
    fn move_on(&mut self) {
        let state = self.registers.save();
        (self.registers, self.taken) = plug(&self.memory);
        self.registers.restore(&state).unwrap();
        assert!(self.taken.lock().unwrap().is_none(), "paused");
        self.registers.resume().unwrap();
    }

    /// The available index of a queue.
    fn available(&self, queue: u64) -> GuestAddress {
        GuestAddress(params(queue).driver + 2)
    }

    /// The driver breaks queue 0, which the device sees, and mends it again.
    fn break_and_mend(&mut self) {
        let at = self.available(0);
        let index: u16 = self.memory.read_obj(at).unwrap();
        self.memory.write_obj(index.wrapping_add(100), at).unwrap();
        assert!(!serve(&self.taken, 0));
        assert_eq!(self.get(STATUS), 15 | 0x40);
        self.memory.write_obj(index, at).unwrap();
    }
}

#[test]
fn queues_go_on_where_they_were() {
    let mut bench = Bench::new();
    for round in 0..20 {
        assert!(bench.round_trip(0) && bench.round_trip(1), "round {round}");
        assert!(bench.round_trip(1));
        bench.move_on();
    }
}

#[test]
fn a_broken_queue_stays_broken_and_the_other_goes_on() {
    let mut bench = Bench::new();
    assert!(bench.round_trip(0) && bench.round_trip(1));
    bench.break_and_mend();
    for _ in 0..3 {
        bench.move_on();
        assert!(!bench.round_trip(0) && bench.round_trip(1));
        assert_eq!((bench.get(STATUS), bench.get(0x44)), (15 | 0x40, 1));
    }
}

#[test]
fn a_broken_queue_stays_broken_when_the_other_is_reset() {
    let mut bench = Bench::new();
    bench.break_and_mend();
    bench.set(0x30, 1);
    bench.set(0xc0, 1);
    assert!(!bench.round_trip(0) && !bench.round_trip(1));
    let queue = DriverQueue::new(bench.memory.clone(), params(1), FEATURES);
    bench.memory.write_slice(&[0; 0x1000], GuestAddress(0x2000)).unwrap();
    bench.queues[1] = queue.unwrap();
    bench.set_up(1);
    assert!(!bench.round_trip(0) && bench.round_trip(1));
    let idle = bench.taken.lock().unwrap().as_ref().unwrap().each_ref().map(Virtqueue::size);
    assert_eq!(idle, [1, 8], "no driver's ring, and the second one");
}

#[test]
fn a_queue_in_reset_stays_so_and_can_be_set_up_anew() {
    let mut bench = Bench::new();
    assert!(bench.round_trip(0) && bench.round_trip(1));
    bench.set(0x30, 0);
    bench.set(0xc0, 1);
    bench.move_on();
    assert_eq!((bench.get(0x44), bench.get(0xc0), bench.get(STATUS)), (0, 0, 15));
    assert!(!bench.round_trip(0) && bench.round_trip(1));
    bench.memory.write_slice(&[0; 0x1000], GuestAddress(0x1000)).unwrap();
    bench.queues[0] = DriverQueue::new(bench.memory.clone(), params(0), FEATURES).unwrap();
    bench.set_up(0);
    assert!(bench.round_trip(0) && bench.round_trip(1));
    bench.move_on();
    assert!(bench.round_trip(0) && bench.round_trip(1));
}
