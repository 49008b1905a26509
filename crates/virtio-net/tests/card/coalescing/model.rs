//! Random histories of a card beside what the standard has of them: how many interrupts, and when.

use std::time::Duration;

use cubie_testkit::within;
use proptest::prelude::*;

use super::bench::{Bench, RX_SET, SIZE, TX_SET};
use crate::driver::{DEADLINE, OK};

#[derive(Clone, Debug)]
enum Step {
    /// So many frames in one batch, in queue 0 or 1.
    Pass(u16, u16),
    /// Microseconds.
    Wait(u32),
    /// Numbers for a queue: packets and microseconds; of all of its kind, or of this one.
    Set(u16, [u32; 2], bool),
    /// The driver wants no interrupts of a queue, or does again.
    Suppress(u16, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2u16, 1..20u16).prop_map(|(queue, frames)| Step::Pass(queue, frames)),
        4 => (0..40u32).prop_map(Step::Wait),
        2 => (0..2u16, [0..60u32, 0..80u32], any::<bool>())
            .prop_map(|(queue, numbers, all)| Step::Set(queue, numbers, all)),
        1 => (0..2u16, any::<bool>()).prop_map(|(queue, off)| Step::Suppress(queue, off)),
    ];
    prop::collection::vec(step, 1..40)
}

/// One queue, as «Notifications Coalescing» has it.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    packets: u32,
    usecs: u32,
    untold: u32,
    /// When the first of those that are untold was there.
    since: u32,
    suppressed: bool,
}

impl Queue {
    fn pass(&mut self, frames: u32, now: u32) {
        if self.untold == 0 {
            self.since = now;
        }
        self.untold += frames;
    }

    /// When what is untold is to be told by the time.
    fn due(&self) -> Option<u32> {
        (self.untold > 0).then_some(self.since + self.usecs)
    }

    /// Are the conditions of a notification met? Then how many come: one, or none.
    fn tell(&mut self, now: u32) -> u64 {
        let at_once = self.packets == 0 || self.usecs == 0;
        // Half of a ring is the card's own limit.
        let enough = self.untold >= self.packets.min(u32::from(SIZE) / 2);
        let late = self.due().is_some_and(|due| due <= now);
        if self.untold > 0 && (at_once || enough || late) {
            self.untold = 0;
            return (!self.suppressed).into();
        }
        0
    }
}

/// The card and the model do the same.
fn compare(steps: Vec<Step>) {
    let mut bench = Bench::new();
    let (mut queues, mut now) = ([Queue::default(); 2], 0);
    for (at, step) in steps.iter().enumerate() {
        let interrupts = match *step {
            Step::Pass(queue, frames) => {
                queues[usize::from(queue)].pass(frames.into(), now);
                bench.pass(queue, frames)
            }
            Step::Wait(usecs) => {
                now += usecs;
                bench.wait(Duration::from_micros(usecs.into()))
            }
            Step::Set(queue, [packets, usecs], all) => {
                let it = &mut queues[usize::from(queue)];
                (it.packets, it.usecs) = (packets, usecs);
                let set = [RX_SET, TX_SET][usize::from(queue)];
                let answer = match all {
                    true => bench.set(set, packets, usecs),
                    false => bench.set_one(queue, packets, usecs),
                };
                assert_eq!(answer, OK);
                bench.interrupts()
            }
            Step::Suppress(queue, off) => {
                queues[usize::from(queue)].suppressed = off;
                let ring = bench.driver.raw.queue(queue.into());
                match off {
                    true => ring.disable_interrupts(),
                    false => assert!(!ring.enable_interrupts(), "all used buffers were taken"),
                }
                0
            }
        };
        let expected: u64 = queues.iter_mut().map(|queue| queue.tell(now)).sum();
        assert_eq!(interrupts, expected, "at step {at} of {steps:?}");
        let due =
            queues.iter().filter_map(Queue::due).min().map(|due| Duration::from_micros(due.into()));
        let timer = bench.clock.next_timer();
        assert!(
            due.is_none_or(|due| timer.is_some_and(|timer| timer <= due)),
            "{timer:?} of {due:?} at step {at} of {steps:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn interrupts_come_as_often_and_when_the_standard_has_it(steps in steps()) {
        within(DEADLINE, move || compare(steps));
    }
}
