//! The page against the registers that are trapped, and what is different on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cubie_mmio_bus::{MemoryPage, MmioDevice};
use proptest::prelude::*;

use super::{Bench, STATUS, VERSION_1};
use crate::Features;

const INTERRUPT_STATUS: u64 = 0x60;
const INTERRUPT_ACK: u64 = 0x64;
const GENERATION: u64 = 0xfc;
const CONFIG: u64 = 0x100;

pub(super) struct Shared {
    pub(super) bench: Bench,
    pub(super) page: Arc<MemoryPage>,
}

impl Shared {
    pub(super) fn new() -> Self {
        let (mut bench, page) = (Bench::new(), Arc::new(MemoryPage::new(0x1000)));
        bench.registers = bench.registers.with_page(page.clone());
        Self { bench, page }
    }

    pub(super) fn load(&self, offset: u64) -> u32 {
        self.page.load(offset as usize)
    }
}

/// What happens to a device.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Write(u64, Vec<u8>),
    /// The driver goes on to FEATURES_OK with these, and has queues to set up.
    Negotiate(u64),
    Drive,
    /// The device changes its configuration space.
    Change(u8),
    UsedBuffers,
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let register = prop_oneof![
        (0..0x48u64).prop_map(|word| 4 * word),
        prop::sample::select(vec![0x14, 0x24, 0x30, 0x38, 0x44, STATUS, INTERRUPT_ACK, 0xac]),
    ];
    let value = prop_oneof![0..20u32, any::<u32>()];
    prop_oneof![
        6 => (register, value).prop_map(|(at, value)| Event::Write(at, value.to_le_bytes().into())),
        1 => (0..0x110u64, prop::collection::vec(any::<u8>(), 1..=8))
            .prop_map(|(at, data)| Event::Write(at, data)),
        2 => prop::sample::select(vec![0, Features::RING_RESET.0])
            .prop_map(|chosen| Event::Negotiate(VERSION_1 | chosen)),
        2 => Just(Event::Drive),
        1 => any::<u8>().prop_map(Event::Change),
        1 => Just(Event::UsedBuffers),
    ]
}

pub(super) fn happen(bench: &mut Bench, event: &Event) {
    match event {
        // Four bytes of space are there to be written.
        Event::Write(at, data) if *at + data.len() as u64 > CONFIG + 4 => {}
        Event::Write(at, data) => bench.write(*at, data),
        Event::Negotiate(features) => bench.negotiate(*features),
        Event::Drive => bench.drive(),
        Event::Change(to) => bench.config.update(|bytes| bytes.fill(*to)),
        Event::UsedBuffers => {
            let running = bench.seen.running.load(Ordering::SeqCst);
            let interrupt = bench.seen.interrupt.lock().unwrap();
            interrupt.iter().filter(|_| running).for_each(|interrupt| interrupt.trigger());
        }
    }
}

proptest! {
    #[test]
    fn the_page_holds_what_a_trapped_driver_would_read_whatever_happens(
        events in prop::collection::vec(event(), 0..60),
    ) {
        let (mut trapped, mut shared) = (Bench::new(), Shared::new());
        for event in &events {
            happen(&mut trapped, event);
            happen(&mut shared.bench, event);
            prop_assert!(shared.page.is_shown());
            let used_buffers = u32::from(trapped.get(STATUS) & 4 != 0);
            for offset in (0..0x200).step_by(4) {
                let (in_page, read) = (shared.load(offset), shared.bench.get(offset));
                prop_assert_eq!(in_page, read, "{:#x} after {:?}", offset, event);
                let always = if offset == INTERRUPT_STATUS { 1 } else { 0 };
                let expected = trapped.get(offset) & !always | always & used_buffers;
                prop_assert_eq!(in_page, expected, "{:#x} after {:?}", offset, event);
            }
        }
    }
}

#[test]
fn used_buffers_are_always_the_reason_from_before_the_start_until_the_reset() {
    let mut shared = Shared::new();
    shared.bench.negotiate(VERSION_1);
    assert_eq!(shared.load(INTERRUPT_STATUS), 0);
    shared.bench.drive();
    assert_eq!(shared.load(INTERRUPT_STATUS), 1);
    shared.bench.set(INTERRUPT_ACK, 1);
    assert_eq!(shared.load(INTERRUPT_STATUS), 1);
    shared.bench.config.update(|bytes| bytes[0] = 9);
    assert_eq!(shared.load(INTERRUPT_STATUS), 3);
    shared.bench.set(INTERRUPT_ACK, 3);
    assert_eq!(shared.load(INTERRUPT_STATUS), 1);
    shared.bench.set(STATUS, 0);
    assert_eq!(shared.load(INTERRUPT_STATUS), 0);
}

#[test]
fn the_interrupt_for_used_buffers_is_one_that_the_kernel_may_raise() {
    let offload = |mut bench: Bench| {
        bench.drive();
        let interrupt = bench.seen.interrupt.lock().unwrap().clone().unwrap();
        interrupt.offload().map(|eventfd| eventfd.write(1)).is_some_and(|raised| raised.is_ok())
            && bench.line.read().is_ok()
    };
    assert!(!offload(Bench::new()), "a trapped driver must find the reason");
    assert!(offload(Shared::new().bench));
}

#[test]
fn a_driver_that_compares_generations_never_reads_a_mixture() {
    let Shared { mut bench, page } = Shared::new();
    let (config, end) = (bench.config.clone(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 0;
            while !end.load(Ordering::SeqCst) {
                next ^= 0xff;
                config.update(|bytes| bytes.fill(next));
            }
        });
        let mut whole = 0;
        for _ in 0..50_000 {
            let mut read = |offset: u64, data: &mut [u8]| match page.is_shown() {
                true => {
                    let word = page.load((offset & !3) as usize).to_le_bytes();
                    data.copy_from_slice(&word[(offset & 3) as usize..][..data.len()]);
                }
                false => bench.registers.read(offset, data),
            };
            let (mut before, mut after, mut low, mut high) = ([0; 4], [0; 4], [0], [0]);
            read(GENERATION, &mut before);
            read(CONFIG, &mut low);
            read(CONFIG + 3, &mut high);
            read(GENERATION, &mut after);
            if before == after {
                assert!(low == high || low == [1] && high == [4], "{low:?} {high:?}");
                whole += 1;
            }
        }
        end.store(true, Ordering::SeqCst);
        assert!(whole > 0);
    });
}

#[test]
fn a_driver_that_acknowledges_after_it_has_looked_still_finds_the_reason_of_the_next_edge() {
    let mut shared = Shared::new();
    shared.bench.drive();
    let interrupt = shared.bench.seen.interrupt.lock().unwrap().clone().unwrap();
    interrupt.trigger();
    assert_eq!((shared.bench.line.read().unwrap(), shared.load(INTERRUPT_STATUS)), (1, 1));
    // It has looked at its queues, then a buffer is used, then it acknowledges what it has seen.
    interrupt.trigger();
    shared.bench.set(INTERRUPT_ACK, 1);
    assert_eq!((shared.bench.line.read().unwrap(), shared.load(INTERRUPT_STATUS)), (1, 1));
}
