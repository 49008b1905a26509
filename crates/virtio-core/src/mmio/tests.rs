//! The register file without a VM, through a device that records what happens to it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cubie_mmio_bus::MmioDevice;
use cubie_vm_irq::Interrupt;
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::MmioTransport;
use crate::{
    Config, DeviceId, Features, OnFault, QueueState, Queues, SharedMemory, StartError,
    VirtioDevice, Virtqueue,
};

mod delayed;
mod exact;
mod hostile;
mod legacy;
mod notify;
mod page;
mod queue_reset;
mod snapshot;

#[derive(Default)]
struct Seen {
    running: AtomicBool,
    starts: AtomicUsize,
    interrupt: Mutex<Option<Interrupt>>,
    fault: Mutex<Option<OnFault>>,
    start: Mutex<(Features, QueueState)>,
}

struct Probe {
    seen: Arc<Seen>,
    config: Config,
}

impl VirtioDevice for Probe {
    fn id(&self) -> DeviceId {
        DeviceId(42)
    }
    fn features(&self) -> Features {
        Features::bit(5)
    }
    fn rings(&self) -> Features {
        Features(!Features::IN_ORDER.0)
    }
    fn queue_sizes(&self) -> &[u16] {
        &[8, 16]
    }
    fn config(&self) -> &Config {
        &self.config
    }
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.config.update(|bytes| bytes[offset..offset + data.len()].copy_from_slice(data));
    }
    fn shared_memory(&self) -> &[SharedMemory] {
        const REGIONS: [SharedMemory; 2] = [
            SharedMemory { id: 7, base: GuestAddress(0x2_0000_1000), len: 0x1_0000_2000 },
            SharedMemory { id: 9, base: GuestAddress(0x3000), len: 0x4000 },
        ];
        &REGIONS
    }
    fn start(&mut self, features: Features, mut queues: Queues) -> Result<(), StartError> {
        let resources = queues.take_resources(0).ok_or(StartError::MissingQueue(0))?;
        *self.seen.interrupt.lock().unwrap() = Some(resources.interrupt.clone());
        *self.seen.fault.lock().unwrap() = Some(resources.fault.clone());
        *self.seen.start.lock().unwrap() = (features, resources.state);
        let queue = Virtqueue::new(resources);
        queue.map_err(|source| StartError::Queue { index: 0, source })?;
        self.seen.starts.fetch_add(1, Ordering::SeqCst);
        self.seen.running.store(true, Ordering::SeqCst);
        Ok(())
    }
    fn stop(&mut self) -> Vec<QueueState> {
        self.seen.running.store(false, Ordering::SeqCst);
        vec![self.seen.start.lock().unwrap().1]
    }
}

struct Bench {
    registers: MmioTransport,
    seen: Arc<Seen>,
    config: Config,
    line: EventFd,
    /// Writes that may be delayed and are, where that is tried.
    late: Option<Vec<(u64, Vec<u8>)>>,
}

impl Bench {
    fn new() -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let interrupt = Interrupt::new(line.try_clone().unwrap());
        let (seen, config) = (Arc::new(Seen::default()), Config::new([1, 2, 3, 4]));
        let probe = Probe { seen: seen.clone(), config: config.clone() };
        let registers = MmioTransport::new(Box::new(probe), Arc::new(memory), interrupt).unwrap();
        Self { registers, seen, config, line, late: None }
    }

    fn get(&mut self, offset: u64) -> u32 {
        let mut data = [0xee; 4];
        self.registers.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn set(&mut self, offset: u64, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }

    /// Up to FEATURES_OK, choosing `features`.
    fn negotiate(&mut self, features: u64) {
        self.set(STATUS, 0);
        self.set(STATUS, 1);
        self.set(STATUS, 3);
        for (word, value) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.set(0x24, word);
            self.set(0x20, value);
        }
        self.set(STATUS, 11);
    }

    /// All the way to DRIVER_OK with queue 0.
    fn drive(&mut self) {
        self.drive_with(VERSION_1);
    }

    fn drive_with(&mut self, features: u64) {
        self.negotiate(features);
        self.set(0x30, 0);
        self.set(0x38, 8);
        self.set(0x44, 1);
        self.set(STATUS, 15);
    }
}

const STATUS: u64 = 0x70;
const VERSION_1: u64 = 1 << 32;

#[test]
fn a_driver_finds_who_the_device_is() {
    let mut bench = Bench::new();
    assert_eq!(bench.get(0x00), 0x7472_6976);
    assert_eq!(bench.get(0x04), 2);
    assert_eq!(bench.get(0x08), 42);
    bench.set(0x14, 1);
    assert_eq!(bench.get(0x10), 1 | 1 << 8, "VERSION_1 and RING_RESET are features 32 and 40");
    bench.set(0x14, 0);
    assert_eq!(bench.get(0x10), 1 << 5 | 1 << 28 | 1 << 29);
    bench.set(0x14, 2);
    assert_eq!(bench.get(0x10), 0);
}

#[test]
fn queues_that_do_not_exist_have_no_size() {
    let mut bench = Bench::new();
    let sizes: Vec<_> = (0..3)
        .map(|queue| {
            bench.set(0x30, queue);
            bench.get(0x34)
        })
        .collect();
    assert_eq!(sizes, [8, 16, 0]);
}

#[test]
fn features_that_were_not_offered_are_refused() {
    let mut bench = Bench::new();
    bench.negotiate(VERSION_1 | 1 << 6);
    assert_eq!(bench.get(STATUS), 3, "FEATURES_OK does not stick");
    bench.negotiate(1 << 5);
    assert_eq!(bench.get(STATUS), 3, "nor without VERSION_1");
    bench.negotiate(VERSION_1 | 1 << 5);
    assert_eq!(bench.get(STATUS), 11);
}

#[test]
fn packed_rings_are_offered_when_asked_for_and_begin_at_their_own_beginning() {
    let mut bench = Bench::new();
    bench.negotiate(VERSION_1 | Features::PACKED.0);
    assert_eq!(bench.get(STATUS), 3, "not by themselves");
    bench.registers = bench.registers.with_rings(Features::PACKED);
    bench.drive_with(VERSION_1 | Features::PACKED.0);
    assert_eq!(bench.get(STATUS), 15);
    assert_eq!(bench.seen.start.lock().unwrap().1.next_avail, 0x8000);
}

#[test]
fn driver_ok_starts_and_reset_stops() {
    let mut bench = Bench::new();
    bench.negotiate(VERSION_1);
    assert!(!bench.seen.running.load(Ordering::SeqCst), "not before DRIVER_OK");
    bench.drive();
    assert_eq!(bench.get(STATUS), 15);
    assert!(bench.seen.running.load(Ordering::SeqCst));
    assert_eq!(bench.seen.start.lock().unwrap().0, Features(VERSION_1));
    bench.set(STATUS, 15);
    assert_eq!(bench.seen.starts.load(Ordering::SeqCst), 1, "DRIVER_OK again is nothing new");
    bench.set(STATUS, 0);
    assert!(!bench.seen.running.load(Ordering::SeqCst));
    assert_eq!((bench.get(STATUS), bench.get(0x44)), (0, 0));
}

#[test]
fn a_device_without_its_queue_asks_for_a_reset() {
    let mut bench = Bench::new();
    bench.negotiate(VERSION_1);
    bench.set(STATUS, 15);
    assert_eq!(bench.get(STATUS), 15 | 0x40);
    assert_eq!(bench.get(0x60), 2, "by a configuration interrupt");
    assert_eq!(bench.line.read().unwrap(), 1);
}

#[test]
fn an_interrupt_has_its_reason_until_it_is_acknowledged() {
    let mut bench = Bench::new();
    bench.drive();
    let interrupt = bench.seen.interrupt.lock().unwrap().clone().unwrap();
    interrupt.trigger();
    bench.config.update(|bytes| bytes[0] = 9);
    assert_eq!(bench.line.read().unwrap(), 2);
    assert_eq!(bench.get(0x60), 3);
    bench.set(0x64, 1);
    assert_eq!(bench.get(0x60), 2);
    bench.set(0x64, 3);
    assert_eq!(bench.get(0x60), 0);
}

#[test]
fn configuration_changes_are_silent_before_driver_ok_but_numbered() {
    let mut bench = Bench::new();
    let before = bench.get(0xfc);
    bench.config.update(|bytes| bytes[0] = 9);
    assert_ne!(bench.get(0xfc), before);
    assert!(bench.line.read().is_err(), "no interrupt");
    assert_eq!(bench.get(0x100), 0x0403_0209);
}

#[test]
fn queues_are_set_up_after_features_and_before_driver_ok_only() {
    let mut bench = Bench::new();
    bench.set(0x80, 0x1000);
    assert_eq!(bench.registers.setup.queues[0].params.desc, 0);
    bench.drive();
    bench.set(0x30, 1);
    bench.set(0x44, 1);
    assert_eq!(bench.get(0x44), 0);
}

#[test]
fn shared_memory_is_where_its_id_says_and_all_ones_elsewhere() {
    let mut bench = Bench::new();
    let registers = [0xb0, 0xb4, 0xb8, 0xbc];
    for (id, expected) in
        [(0, [!0; 4]), (7, [0x2000, 1, 0x1000, 2]), (0x107, [!0; 4]), (9, [0x4000, 0, 0x3000, 0])]
    {
        bench.set(0xac, id);
        assert_eq!(registers.map(|register| bench.get(register)), expected, "region {id:#x}");
    }
    bench.set(STATUS, 0);
    assert_eq!(bench.get(0xb0), !0, "a reset selects region 0");
}

#[test]
fn an_unplugged_device_is_stopped_and_told_nobody() {
    let mut bench = Bench::new();
    bench.drive();
    let device = bench.registers.unplug();
    assert!(!bench.seen.running.load(Ordering::SeqCst));
    device.config().update(|bytes| bytes[0] = 1);
    assert!(bench.line.read().is_err());
}
