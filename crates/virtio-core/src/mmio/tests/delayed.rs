//! Writes that come late, against the same ones at once.

use cubie_mmio_bus::MmioDevice;
use cubie_virtq::{Features, QueueParams};
use proptest::prelude::*;

use super::super::DELAYABLE;
use super::page::{Event, Shared, event, happen};
use super::{Bench, STATUS};
use crate::Interface;

const GUEST_PAGE_SIZE: u64 = 0x28;
const QUEUE_SEL: u64 = 0x30;
const QUEUE_ALIGN: u64 = 0x3c;

/// What drivers of both interfaces write to set queues up and to take them back.
fn set_up() -> impl Strategy<Value = Event> {
    let place = prop::sample::select(vec![0x38, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4]);
    let shape = prop::sample::select(vec![GUEST_PAGE_SIZE, QUEUE_ALIGN]);
    let select = (Just(QUEUE_SEL), 0..2u32);
    let use_it = prop::sample::select(vec![0x40, 0x44, 0xc0]);
    let write = |(at, value): (u64, u32)| Event::Write(at, value.to_le_bytes().into());
    prop_oneof![
        (place, 0..20u32),
        (shape, (6..13u32).prop_map(|bits| 1 << bits)),
        select,
        (use_it, 0..3u32),
        Just((STATUS, 15)),
    ]
    .prop_map(write)
}

impl Bench {
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        if let Some(late) = &mut self.late {
            let end = offset + data.len() as u64;
            if DELAYABLE.iter().any(|range| range.start <= offset && end <= range.end) {
                return late.push((offset, data.into()));
            }
            for (offset, data) in late.drain(..) {
                self.registers.write(offset, &data);
            }
        }
        self.registers.write(offset, data);
    }

    /// What the driver has chosen, as far as it has come here.
    fn chosen(&self) -> (Features, u32, Vec<(QueueParams, u32)>) {
        let setup = &self.registers.setup;
        let queues = setup.queues.iter().map(|queue| (queue.params, queue.align));
        (setup.driver_features, setup.guest_page_size, queues.collect())
    }
}

proptest! {
    #[test]
    fn a_driver_cannot_see_that_delayable_writes_are_delayed(
        interface in prop::sample::select(vec![Interface::Modern, Interface::Legacy]),
        events in prop::collection::vec(prop_oneof![event(), set_up()], 0..80),
    ) {
        let [mut at_once, mut late] = [0; 2].map(|_| {
            let Shared { mut bench, page } = Shared::new();
            bench.registers = bench.registers.with_interface(interface);
            Shared { bench, page }
        });
        late.bench.late = Some(vec![]);
        for event in &events {
            happen(&mut at_once.bench, event);
            happen(&mut late.bench, event);
            for offset in (0..0x200).step_by(4) {
                let loads = [at_once.load(offset), late.load(offset)];
                prop_assert_eq!(loads[0], loads[1], "{:#x} after {:?}", offset, event);
            }
            if late.bench.late == Some(vec![]) {
                prop_assert_eq!(at_once.bench.chosen(), late.bench.chosen());
            }
        }
    }
}
