//! Writes that come late, against the same ones at once.

use cubie_mmio_bus::MmioDevice;
use cubie_virtq::{Features, QueueParams};
use proptest::prelude::*;

use super::super::DELAYABLE;
use super::page::{Event, Shared, event, happen};
use super::{Bench, STATUS};

/// What drivers write between FEATURES_OK and DRIVER_OK.
fn set_up() -> impl Strategy<Value = Event> {
    let place = prop::sample::select(vec![0x38, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4]);
    let queue =
        prop::sample::select(vec![(0x30, 0), (0x30, 1), (0x44, 1), (0x44, 0), (STATUS, 15)]);
    let write = |(at, value): (u64, u32)| Event::Write(at, value.to_le_bytes().into());
    prop_oneof![(place, 0..20u32), queue].prop_map(write)
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
    fn chosen(&self) -> (Features, Vec<QueueParams>) {
        let setup = &self.registers.setup;
        (setup.driver_features, setup.queues.iter().map(|queue| queue.params).collect())
    }
}

proptest! {
    #[test]
    fn a_driver_cannot_see_that_delayable_writes_are_delayed(
        events in prop::collection::vec(prop_oneof![event(), set_up()], 0..80),
    ) {
        let (mut at_once, mut late) = (Shared::new(), Shared::new());
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
