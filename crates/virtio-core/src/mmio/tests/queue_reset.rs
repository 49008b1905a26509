//! One queue is reset and set up anew, and the other goes on (VIRTIO 1.4 §2.6.1).

use std::io;
use std::sync::{Arc, Mutex};

use cubie_mmio_bus::{MmioDevice, RegisterPage};
use cubie_virtq::driver::{Buffer, DriverQueue};
use cubie_virtq::{QueueParams, Virtqueue};
use cubie_vm_irq::Interrupt;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::{STATUS, VERSION_1};
use crate::mmio::MmioTransport;
use crate::{Config, DeviceId, Features, QueueState, Queues, StartError, VirtioDevice};

const RING_RESET: Features = Features::RING_RESET;
const READY: u64 = 0x44;
const RESET: u64 = 0xc0;

pub(super) type Taken = Arc<Mutex<Option<[Virtqueue; 2]>>>;

/// A device that cannot do without either of its queues, which the test serves.
pub(super) struct Pair(pub(super) Config, pub(super) Taken);

impl VirtioDevice for Pair {
    fn id(&self) -> DeviceId {
        DeviceId(42)
    }
    fn features(&self) -> Features {
        Features::default()
    }
    fn queue_sizes(&self) -> &[u16] {
        &[8, 8]
    }
    fn config(&self) -> &Config {
        &self.0
    }
    fn start(&mut self, _: Features, mut queues: Queues) -> Result<(), StartError> {
        let both = [queues.take(0)?, queues.take(1)?];
        assert!(self.1.lock().unwrap().replace(both).is_none(), "start and stop alternate");
        Ok(())
    }
    fn stop(&mut self) -> Vec<QueueState> {
        let both = self.1.lock().unwrap().take();
        both.map(|both| both.iter().map(Virtqueue::state).collect()).unwrap_or_default()
    }
}

/// A driver with both queues, and the device's end of them.
struct Bench {
    registers: MmioTransport,
    memory: Arc<GuestMemoryMmap>,
    features: Features,
    taken: Taken,
    queues: Vec<DriverQueue>,
}

impl Bench {
    fn new(features: Features) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
        let (memory, taken) = (Arc::new(memory), Taken::default());
        let pair = Box::new(Pair(Config::default(), taken.clone()));
        let rings = Features::RING.with(Features::PACKED);
        let registers = MmioTransport::new(pair, memory.clone(), Interrupt::silent()).unwrap();
        let features = features.with(Features(VERSION_1));
        let registers = registers.with_rings(rings);
        let mut bench = Self { registers, memory, features, taken, queues: vec![] };
        for status in [0, 1, 3] {
            bench.set(STATUS, status);
        }
        for (word, value) in [(0, features.0 as u32), (1, (features.0 >> 32) as u32)] {
            bench.set(0x24, word);
            bench.set(0x20, value);
        }
        bench.set(STATUS, 11);
        bench.queues = [0, 1].map(|queue| bench.set_up(queue, 8, 0x1000 + queue * 0x1000)).into();
        bench.set(STATUS, 15);
        assert_eq!(bench.get(STATUS), 15);
        bench
    }

    fn get(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.registers.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn set(&mut self, offset: u64, value: u32) {
        self.registers.write(offset, &value.to_le_bytes());
    }

    /// The driver's end of a queue that it has set up.
    fn set_up(&mut self, queue: u32, size: u16, base: u32) -> DriverQueue {
        let (params, _) = QueueParams::contiguous(base.into(), size, self.features);
        let driver = DriverQueue::new(self.memory.clone(), params, self.features).unwrap();
        self.set(0x30, queue);
        self.set(0x38, size.into());
        for (offset, address) in [(0x80, params.desc), (0x90, params.driver), (0xa0, params.device)]
        {
            self.set(offset, address as u32);
        }
        self.set(READY, 1);
        driver
    }

    /// A chain goes there and comes back; false when the device does not see it.
    fn round_trip(&mut self, queue: usize) -> bool {
        let token = self.queues[queue].add(&[Buffer::writable(0x8000, 16)]).unwrap();
        self.queues[queue].publish();
        serve(&self.taken, queue) && self.queues[queue].pop_used().unwrap().token == token
    }
}

/// The device takes a chain of `queue` and gives it back; false when it sees none.
pub(super) fn serve(taken: &Taken, queue: usize) -> bool {
    let mut taken = taken.lock().unwrap();
    let device = &mut taken.as_mut().expect("a device that runs")[queue];
    let chain = device.pop();
    let seen = chain.is_some();
    chain.into_iter().for_each(|chain| device.push(chain, 0));
    device.signal();
    seen
}

#[test]
fn a_queue_is_reset_and_comes_back_elsewhere_while_the_other_goes_on() {
    for ring in [RING_RESET, RING_RESET.with(Features::PACKED)] {
        let mut bench = Bench::new(ring);
        for queue in [0, 1, 1] {
            assert!(bench.round_trip(queue));
        }
        bench.set(0x30, 0);
        bench.set(RESET, 1);
        assert_eq!((bench.get(RESET), bench.get(READY), bench.get(STATUS)), (0, 0, 15));
        assert!(!bench.round_trip(0), "what it had available is not looked at");
        assert!(bench.round_trip(1), "in the state in which it was");
        bench.set(0x30, 1);
        assert_eq!(bench.get(READY), 1);

        bench.queues[0] = bench.set_up(0, 4, 0x4000);
        assert_eq!((bench.get(RESET), bench.get(READY)), (0, 1));
        assert_eq!(bench.taken.lock().unwrap().as_ref().unwrap()[0].size(), 4);
        for queue in [0, 1, 0, 1] {
            assert!(bench.round_trip(queue));
        }
    }
}

/// What stands in QueueReset, at each change of the page around it.
#[derive(Default)]
struct History(Mutex<Vec<u32>>);

impl RegisterPage for History {
    fn size(&self) -> usize {
        0x1000
    }
    fn store(&self, offset: usize, words: &[u32]) {
        let at = (RESET as usize).checked_sub(offset).map(|bytes| bytes / 4);
        self.0.lock().unwrap().extend(at.and_then(|at| words.get(at)));
    }
    fn hide(&self) -> io::Result<()> {
        Ok(())
    }
    fn show(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_page_says_that_a_reset_is_going_on_and_that_it_is_over() {
    let (mut bench, history) = (Bench::new(RING_RESET), Arc::new(History::default()));
    bench.registers = bench.registers.with_page(history.clone());
    bench.set(0x30, 0);
    history.0.lock().unwrap().clear();
    bench.set(RESET, 1);
    assert_eq!(*history.0.lock().unwrap(), [1, 0]);
}

#[test]
fn both_queues_may_be_in_reset_at_once() {
    let mut bench = Bench::new(RING_RESET);
    for queue in [0, 1] {
        bench.set(0x30, queue);
        bench.set(RESET, 1);
    }
    assert!(!bench.round_trip(0) && !bench.round_trip(1));
    bench.queues[1] = bench.set_up(1, 8, 0x2000);
    assert!(!bench.round_trip(0) && bench.round_trip(1));
}

#[test]
fn a_zero_in_queue_ready_resets_the_queue_too() {
    let mut bench = Bench::new(RING_RESET);
    bench.set(0x30, 0);
    bench.set(READY, 2);
    assert_eq!(bench.get(READY), 1, "nothing but 0 and 1 has a meaning");
    bench.set(READY, 0);
    assert_eq!(bench.get(READY), 0);
    assert!(!bench.round_trip(0) && bench.round_trip(1));
}

#[test]
fn without_the_feature_a_running_queue_stays_as_it_is_until_it_is_taken_back() {
    let mut bench = Bench::new(Features::default());
    assert!(bench.round_trip(0));
    bench.set(0x30, 0);
    for (offset, value) in [(RESET, 1), (0x38, 4), (0x80, 0x4000), (READY, 1)] {
        bench.set(offset, value);
        assert_eq!((bench.get(RESET), bench.get(READY)), (0, 1));
    }
    assert!(bench.round_trip(0));
    bench.set(0x30, 0);
    bench.set(READY, 0);
    assert_eq!(bench.get(READY), 0);
    assert!(!bench.round_trip(0) && bench.round_trip(1));
}

#[test]
fn only_a_one_resets() {
    let mut bench = Bench::new(RING_RESET);
    bench.set(0x30, 0);
    for value in [0, 2, 3, !0] {
        bench.set(RESET, value);
        assert_eq!(bench.get(READY), 1, "{value:#x}");
    }
    bench.set(0x30, 2);
    bench.set(RESET, 1);
    assert!(bench.round_trip(0) && bench.round_trip(1), "no such queue");
}

#[test]
fn before_driver_ok_a_reset_forgets_where_the_queue_was() {
    let mut bench = Bench::new(RING_RESET);
    bench.set(STATUS, 0);
    for status in [1, 3] {
        bench.set(STATUS, status);
    }
    bench.set(0x24, 1);
    bench.set(0x20, 1 | 1 << 8);
    bench.set(STATUS, 11);
    for queue in [0, 1] {
        bench.set_up(queue, 8, 0x1000);
    }
    bench.set(RESET, 1);
    assert_eq!((bench.get(READY), bench.registers.setup.queues[1].params.desc), (0, 0));
    bench.set(STATUS, 15);
    assert_eq!(bench.get(STATUS), 15 | 0x40, "this one was never in use: it is missing");
}

#[test]
fn a_queue_that_comes_back_where_none_can_be_stops_the_device_until_its_reset() {
    let mut bench = Bench::new(RING_RESET);
    bench.set(0x30, 0);
    bench.set(RESET, 1);
    bench.set(0x80, 0x1001);
    bench.set(READY, 1);
    assert_eq!(bench.get(STATUS), 15 | 0x40);
    assert!(bench.taken.lock().unwrap().is_none());
    bench.set(RESET, 1);
    bench.set_up(0, 8, 0x1000);
    assert!(bench.taken.lock().unwrap().is_none(), "nothing less starts it again");
    bench.set(STATUS, 0);
    assert_eq!((bench.get(STATUS), bench.get(READY)), (0, 0));
}
