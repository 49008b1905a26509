//! Attacks out of plain numbers, which shrink: the smaller, the simpler is what they make.

use std::slice::Iter;

use proptest::collection::vec;
use proptest::prelude::*;
use virtio_bindings::virtio_mmio::VIRTIO_MMIO_STATUS;

use super::step::{Attack, Begin, Place, Poke, Step};
use crate::garbage::{HALF, HOT};

/// Steps of an attack, at most.
const MOST_STEPS: usize = 240;
/// Places that the other thread writes to, at most.
const MOST_PLACES: usize = 11;
/// As many as the longest step takes.
const WORDS: usize = 12;

/// What makes one step or one poke. Drawing all its numbers at once, needed or not, takes a tenth of the
/// time that a strategy with a branch for each kind takes.
type Numbers = [u32; WORDS];

/// Attacks of up to some hundred steps, with another thread that writes memory or without.
pub(super) fn attack(two_threads: bool) -> impl Strategy<Value = Attack> {
    let pokes = if two_threads { 1..=MOST_PLACES } else { 0..=0 };
    let steps = vec(any::<Numbers>(), 1..=MOST_STEPS);
    (any::<bool>(), any::<Numbers>(), steps, vec(any::<Numbers>(), pokes)).prop_map(
        |(trapped, begin, steps, meanwhile)| Attack {
            trapped,
            begin: Words(begin.iter()).begin(),
            steps: steps.iter().map(|numbers| Words(numbers.iter()).step()).collect(),
            meanwhile: meanwhile
                .iter()
                .flat_map(|numbers| Words(numbers.iter()).flicker())
                .collect(),
        },
    )
}

/// Takes one number after the other.
struct Words<'a>(Iter<'a, u32>);

impl Words<'_> {
    fn any(&mut self) -> u32 {
        self.0.next().copied().expect("as many as the longest step takes")
    }

    /// Not the remainder: a smaller number gives a smaller one.
    fn below(&mut self, end: u32) -> u32 {
        ((u64::from(self.any()) * u64::from(end)) >> u32::BITS) as u32
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u32) as usize]
    }

    fn flag(&mut self) -> bool {
        self.of(&[false, true])
    }

    fn queue(&mut self) -> u8 {
        self.below(4) as u8
    }

    fn step(&mut self) -> Step {
        match self.below(85) {
            0..5 => Step::Start(self.begin()),
            5..29 => {
                let (queue, indirect) = (self.queue(), self.flag());
                Step::Offer { queue, garbage: self.any(), indirect }
            }
            29..45 => Step::Kick { queue: self.queue(), trapped: self.flag() },
            45..57 => Step::Collect { queue: self.queue() },
            57..67 => Step::Serve { garbage: self.any(), chains: 1 + self.below(4) as u8 },
            67..73 => Step::Poke(self.poke()),
            73..77 => {
                let (offset, width) = (self.register(), self.width());
                Step::Write { offset, value: self.value() as u32, width }
            }
            77 => {
                let value = self.of(&[0, 1, 3, 11, 15, 0x40, 0x80, 0x8f]);
                Step::Write { offset: VIRTIO_MMIO_STATUS as u16, value, width: 4 }
            }
            78..82 => Step::Read { offset: self.register(), width: self.width() },
            82 => Step::ResetQueue { queue: self.queue() },
            _ => Step::RenewQueue { queue: self.queue() },
        }
    }

    fn begin(&mut self) -> Begin {
        let size = self.of(&[1, 2, 3, 4, 8, 16, 64, 256, u16::MAX]);
        Begin { rings: self.below(16) as u8, own: self.any(), size }
    }

    fn poke(&mut self) -> Poke {
        Poke { place: self.place(), value: self.value(), width: self.width() }
    }

    /// Two values by turns: what a device reads twice differs.
    fn flicker(&mut self) -> [Poke; 2] {
        let (place, width) = (self.place(), self.width());
        [self.value(), self.value()].map(|value| Poke { place, value, width })
    }

    fn place(&mut self) -> Place {
        match self.below(15) {
            0..3 => {
                let (queue, index) = (self.queue(), self.near(8));
                Place::Descriptor { queue, index, field: self.of(&[0, 8, 12, 14]) }
            }
            3..5 => Place::DriverArea { queue: self.queue(), offset: self.near(16) },
            5 => Place::DeviceArea { queue: self.queue(), offset: self.near(16) },
            6..9 => Place::Table { offset: self.near(16) },
            _ => {
                let (writable, end) = (self.flag(), self.of(&[HOT, HALF]));
                Place::Payload { writable, offset: self.below(end) }
            }
        }
    }

    /// Below `end` every other time, where things are.
    fn near(&mut self, end: u32) -> u16 {
        let end = self.of(&[end, 1 << u16::BITS]);
        self.below(end) as u16
    }

    /// Numbers at the edges of something, more often than others.
    fn value(&mut self) -> u64 {
        const RAM: u64 = crate::RAM_BASE;
        const BORDER: u64 = RAM + (8 << 20);
        const EDGES: [u64; 15] = [
            0x7fff,
            0x8000,
            0x8001,
            0xffff,
            0x1_0000,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            RAM - 1,
            RAM,
            BORDER - 1,
            BORDER,
            RAM + (16 << 20) - 1,
            u64::MAX - 1,
            u64::MAX,
        ];
        match self.below(11) {
            0..4 => self.below(20).into(),
            4 => 1 << (4 + self.below(9)),
            5..8 => self.of(&EDGES),
            8..10 => RAM + u64::from(self.below(16 << 20)),
            _ => u64::from(self.any()) << 32 | u64::from(self.any()),
        }
    }

    fn width(&mut self) -> usize {
        self.of(&[2, 4, 4, 8, 1])
    }

    fn register(&mut self) -> u16 {
        match self.below(5) {
            0..4 => 4 * self.below(0x44) as u16,
            _ => self.below(0x220) as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::*;

    #[test]
    fn no_numbers_make_more_than_there_are() {
        let mut runner = TestRunner::deterministic();
        for _ in 0..200 {
            // Panics where a word is missing.
            attack(true).new_tree(&mut runner).unwrap();
        }
    }

    #[test]
    fn smaller_numbers_make_the_simplest_attack() {
        let mut tree = attack(true).new_tree(&mut TestRunner::deterministic()).unwrap();
        while tree.simplify() {}
        let Attack { trapped, begin, steps, meanwhile } = tree.current();
        assert!(!trapped);
        assert_eq!((begin.rings, begin.own, begin.size), (0, 0, 1));
        assert!(matches!(steps[..], [Step::Start(Begin { rings: 0, own: 0, size: 1 })]));
        let [one, other] = meanwhile[..] else { panic!("{meanwhile:?}") };
        for Poke { place, value, width } in [one, other] {
            assert!(matches!(place, Place::Descriptor { queue: 0, index: 0, field: 0 }));
            assert_eq!((value, width), (0, 2));
        }
    }

    #[test]
    fn another_thread_changes_each_place_back_and_forth() {
        let numbers = [0, 0, 0, 0, 0, 0, 0, u32::MAX / 2, 0, u32::MAX, 0, 0];
        let [one, other] = Words(numbers.iter()).flicker();
        assert_eq!(format!("{:?}", one.place), format!("{:?}", other.place));
        assert_eq!((one.value, other.value), (9, 19));
    }
}
