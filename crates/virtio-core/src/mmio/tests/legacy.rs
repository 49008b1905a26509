//! The legacy interface (VIRTIO 1.4 §4.2.4).

use std::sync::Arc;

use cubie_mmio_bus::{MemoryPage, MmioDevice};
use cubie_virtq::QueueParams;
use cubie_virtq::driver::{Buffer, DriverQueue};
use cubie_vm_irq::Interrupt;
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::queue_reset::{Pair, Taken, serve};
use super::{Bench as Modern, STATUS};
use crate::mmio::MmioTransport;
use crate::{Config, Features, Interface};

const PAGE_SIZE: u64 = 0x28;
const SIZE: u64 = 0x38;
const ALIGN: u64 = 0x3c;
const PAGE: u64 = 0x40;
const INTERRUPT_STATUS: u64 = 0x60;

/// A legacy driver in front of a [`Pair`].
struct Bench {
    registers: MmioTransport,
    memory: Arc<GuestMemoryMmap>,
    config: Config,
    taken: Taken,
    line: EventFd,
}

impl Bench {
    fn new() -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
        let (memory, taken, config) = (Arc::new(memory), Taken::default(), Config::new([0; 4]));
        let pair = Box::new(Pair(config.clone(), taken.clone()));
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let interrupt = Interrupt::new(line.try_clone().unwrap());
        let registers = MmioTransport::new(pair, memory.clone(), interrupt).unwrap();
        let registers = registers.with_interface(Interface::Legacy);
        Self { registers, memory, config, taken, line }
    }

    /// A driver that is about to set its queues up.
    fn known() -> Self {
        let mut bench = Self::new();
        for status in [0, 1, 3] {
            bench.set(STATUS, status);
        }
        bench.set(PAGE_SIZE, 4096);
        bench
    }

    fn get(&mut self, offset: u64) -> u32 {
        let mut data = [0xee; 4];
        self.registers.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn set(&mut self, offset: u64, value: u32) {
        self.registers.write(offset, &value.to_le_bytes());
    }

    /// The driver's end of a queue of 8 that it has set up from `page` on, its used ring in the next one.
    fn set_up(&mut self, queue: u32, page: u32) -> DriverQueue {
        let desc = u64::from(page) * 4096;
        let params = QueueParams { size: 8, desc, driver: desc + 0x80, device: desc + 0x1000 };
        let driver = DriverQueue::new(self.memory.clone(), params, Features::default()).unwrap();
        self.set(0x30, queue);
        self.set(SIZE, 8);
        self.set(ALIGN, 4096);
        self.set(PAGE, page);
        assert_eq!(self.get(PAGE), page);
        driver
    }

    fn round_trip(&mut self, driver: &mut DriverQueue, queue: usize) -> bool {
        let token = driver.add(&[Buffer::writable(0x8000, 16)]).unwrap();
        driver.publish();
        serve(&self.taken, queue) && driver.pop_used().unwrap().token == token
    }
}

#[test]
fn a_legacy_driver_finds_version_one_and_what_it_can_know() {
    let mut bench = Modern::new();
    let all = Features(!0);
    bench.registers = bench.registers.with_interface(Interface::Legacy);
    assert_eq!((bench.get(0), bench.get(4), bench.get(8)), (0x7472_6976, 1, 42));
    assert_eq!(bench.get(0x10), 1 << 5 | 1 << 27 | 1 << 28 | 1 << 29, "any layout will do");
    bench.registers = bench.registers.with_rings(all);
    for word in [1, 2, !0] {
        bench.set(0x14, word);
        assert_eq!(bench.get(0x10), 0, "nothing of version 1");
    }
}

#[test]
fn queues_lie_in_pages_and_serve_after_driver_ok() {
    let mut bench = Bench::known();
    let mut one = bench.set_up(0, 1);
    let mut two = bench.set_up(1, 3);
    bench.set(STATUS, 7);
    assert_eq!(bench.get(STATUS), 7);
    for _ in 0..20 {
        assert!(bench.round_trip(&mut one, 0) && bench.round_trip(&mut two, 1));
    }
    assert_eq!(bench.get(INTERRUPT_STATUS), 1);
    bench.set(STATUS, 0);
    assert_eq!((bench.get(PAGE), bench.get(STATUS)), (0, 0));
    assert!(bench.taken.lock().unwrap().is_none());
}

#[test]
fn the_device_can_be_used_before_driver_ok_and_tells_afterwards_what_it_kept_to_itself() {
    let mut bench = Bench::known();
    let mut one = bench.set_up(0, 1);
    assert!(bench.taken.lock().unwrap().is_none(), "a queue is missing");
    let mut two = bench.set_up(1, 3);
    assert!(bench.round_trip(&mut one, 0) && bench.round_trip(&mut two, 1));
    assert_eq!(bench.get(INTERRUPT_STATUS), 1);
    bench.set(0x64, 1);
    bench.line.read().unwrap();
    bench.config.update(|bytes| bytes[0] = 1);
    assert!(bench.line.read().is_err());
    bench.set(STATUS, 7);
    assert_eq!((bench.line.read().unwrap(), bench.get(INTERRUPT_STATUS)), (1, 2));
    assert!(bench.round_trip(&mut one, 0), "it runs on");
}

#[test]
fn a_page_of_registers_has_the_reason_before_the_early_start() {
    let mut bench = Bench::known();
    let page = Arc::new(MemoryPage::new(0x1000));
    bench.registers = bench.registers.with_page(page.clone());
    bench.set_up(0, 1);
    assert_eq!((page.load(4), page.load(0x60)), (1, 0));
    bench.set_up(1, 3);
    assert_eq!((page.load(PAGE as usize), page.load(0x60)), (3, 1));
}

#[test]
fn page_zero_resets_a_queue_while_the_other_goes_on() {
    let mut bench = Bench::known();
    let mut one = bench.set_up(0, 1);
    let mut two = bench.set_up(1, 3);
    bench.set(STATUS, 7);
    assert!(bench.round_trip(&mut one, 0) && bench.round_trip(&mut two, 1));
    bench.set(0x30, 0);
    bench.set(PAGE, 0);
    assert_eq!((bench.get(PAGE), bench.get(STATUS)), (0, 7));
    assert!(!bench.round_trip(&mut one, 0) && bench.round_trip(&mut two, 1));
    let mut one = bench.set_up(0, 5);
    assert!(bench.round_trip(&mut one, 0) && bench.round_trip(&mut two, 1));
}

#[test]
fn a_queue_in_use_stays_where_it_is() {
    let mut bench = Bench::known();
    let mut one = bench.set_up(0, 1);
    for (register, value) in [(PAGE, 2), (SIZE, 4), (SIZE, 0), (ALIGN, 64), (PAGE_SIZE, 8192)] {
        bench.set(register, value);
        assert_eq!(bench.get(PAGE), 1);
    }
    bench.set_up(1, 3);
    assert!(bench.round_trip(&mut one, 0));
}

#[test]
fn pages_and_alignments_are_powers_of_two_of_the_drivers_choice() {
    let mut bench = Bench::known();
    for bad in [0, 3, 4097, !0] {
        bench.set(PAGE_SIZE, bad);
        bench.set(ALIGN, bad);
    }
    bench.set(PAGE, 2);
    let params = |bench: &Bench| bench.registers.setup.queues[0].params;
    assert_eq!((params(&bench).desc, params(&bench).device), (0x2000, 0x3000));
    bench.set(PAGE, 0);
    bench.set(PAGE_SIZE, 1 << 16);
    bench.set(ALIGN, 64);
    bench.set(SIZE, 4);
    bench.set(PAGE, 2);
    let expected = QueueParams { size: 4, desc: 0x2_0000, driver: 0x2_0040, device: 0x2_0080 };
    assert_eq!((params(&bench), bench.get(PAGE)), (expected, 2));
}

#[test]
fn features_count_as_far_as_they_were_offered_until_the_start() {
    let mut bench = Bench::known();
    bench.set(0x24, 0);
    bench.set(0x20, !0);
    bench.set(0x24, 1);
    bench.set(0x20, !0);
    let chosen = Features(1 << 27 | 1 << 28 | 1 << 29);
    assert_eq!(bench.registers.setup.driver_features, chosen);
    bench.set_up(0, 1);
    bench.set_up(1, 3);
    bench.set(0x24, 0);
    bench.set(0x20, 0);
    assert_eq!(bench.registers.setup.driver_features, chosen);
    assert_eq!(bench.taken.lock().unwrap().as_ref().unwrap()[0].features(), chosen);
}

#[test]
fn a_queue_where_none_can_be_asks_for_a_reset_and_nothing_less_starts_the_device() {
    let mut bench = Bench::known();
    bench.set_up(0, 1);
    bench.set(0x30, 1);
    bench.set(PAGE, 0x8000);
    assert_eq!(bench.get(STATUS), 3 | 0x40);
    bench.set(PAGE, 0);
    bench.set_up(1, 3);
    bench.set(STATUS, 7);
    assert_eq!(bench.get(STATUS), 7 | 0x40);
    assert!(bench.taken.lock().unwrap().is_none());
}

#[test]
fn what_the_standard_has_added_is_not_there() {
    let mut bench = Bench::known();
    bench.set(STATUS, 11);
    assert_eq!(bench.get(STATUS), 3, "FEATURES_OK");
    bench.set(0x30, 0);
    for register in (0x80..0xfc).step_by(4).chain([0x44]) {
        bench.set(register, 1);
        assert_eq!(bench.get(register), 0, "{register:#x}");
    }
    assert_eq!(bench.registers.setup.queues[0].params.desc, 0);
    bench.set(0x30, 2);
    bench.set(PAGE, 7);
    assert_eq!((bench.get(0x34), bench.get(PAGE)), (0, 0), "no such queue");
}

#[test]
fn a_driver_that_gave_up_is_not_heard() {
    let mut bench = Bench::known();
    bench.set(STATUS, 0x83);
    bench.set(PAGE, 1);
    bench.set(0x20, !0);
    assert_eq!((bench.get(PAGE), bench.registers.setup.driver_features.0), (0, 0));
}
