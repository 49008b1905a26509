//! What a hostile driver does: the grammar of an attack. All numbers are plain, so that they shrink.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What one case plays.
#[derive(Clone, Debug)]
pub(super) struct Attack {
    /// Registers that are trapped, instead of in a page.
    pub(super) trapped: bool,
    pub(super) steps: Vec<Step>,
    /// What another thread writes meanwhile, again and again.
    pub(super) meanwhile: Vec<Poke>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A driver that begins well: ring features by their bits, and the largest size of its queues.
    Start {
        rings: u8,
        size: u16,
    },
    /// A chain that is in order but for its payload, see [`Arena`](crate::garbage::Arena); indirect if
    /// that was chosen.
    Offer {
        queue: u8,
        garbage: u32,
        indirect: bool,
    },
    /// A kick by the register, or by the eventfd behind it.
    Kick {
        queue: u8,
        trapped: bool,
    },
    /// Looks for used buffers, and asks for an interrupt.
    Collect {
        queue: u8,
    },
    /// A store to memory.
    Poke(Poke),
    /// A store to the registers.
    Write {
        offset: u16,
        value: u32,
        width: usize,
    },
    /// A load from them.
    Read {
        offset: u16,
        width: usize,
    },
    /// One queue is reset, or set up as it was.
    ResetQueue {
        queue: u8,
    },
    RenewQueue {
        queue: u8,
    },
}

/// A store to guest memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Poke {
    pub(super) place: Place,
    pub(super) value: u64,
    /// Bytes.
    pub(super) width: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// A field of a descriptor, by its offset.
    Descriptor { queue: u8, index: u16, field: u64 },
    /// What the driver writes of a ring beside descriptors.
    DriverArea { queue: u8, offset: u16 },
    /// What the device writes.
    DeviceArea { queue: u8, offset: u16 },
    /// A table of indirect descriptors.
    Table { offset: u16 },
    /// What chains consist of, readable or writable.
    Payload { offset: u32 },
}

const STATUS: u16 = 0x70;

/// Attacks of a few dozen steps, with another thread that writes memory or without.
pub(super) fn attack(two_threads: bool) -> impl Strategy<Value = Attack> {
    let pokes = if two_threads { 1..12 } else { 0..1 };
    let begin = start();
    (any::<bool>(), begin, vec(step(), 1..120), vec(poke(), pokes)).prop_map(
        |(trapped, begin, mut steps, meanwhile)| {
            steps.insert(0, begin);
            Attack { trapped, steps, meanwhile }
        },
    )
}

fn start() -> impl Strategy<Value = Step> {
    let size = select(vec![1, 2, 3, 4, 8, 16, 64, 256, u16::MAX]);
    (0..16u8, size).prop_map(|(rings, size)| Step::Start { rings, size })
}

fn step() -> impl Strategy<Value = Step> {
    let queue = || 0..4u8;
    prop_oneof![
        5 => start(),
        24 => (queue(), any::<u32>(), any::<bool>())
            .prop_map(|(queue, garbage, indirect)| Step::Offer { queue, garbage, indirect }),
        16 => (queue(), any::<bool>()).prop_map(|(queue, trapped)| Step::Kick { queue, trapped }),
        12 => queue().prop_map(|queue| Step::Collect { queue }),
        6 => poke().prop_map(Step::Poke),
        4 => (register(), value(), width())
            .prop_map(|(offset, value, width)| Step::Write { offset, value: value as u32, width }),
        1 => select(vec![0u32, 1, 3, 11, 15, 0x40, 0x80, 0x8f])
            .prop_map(|value| Step::Write { offset: STATUS, value, width: 4 }),
        4 => (register(), width()).prop_map(|(offset, width)| Step::Read { offset, width }),
        1 => queue().prop_map(|queue| Step::ResetQueue { queue }),
        2 => queue().prop_map(|queue| Step::RenewQueue { queue }),
    ]
}

fn poke() -> impl Strategy<Value = Poke> {
    (place(), value(), width()).prop_map(|(place, value, width)| Poke { place, value, width })
}

fn place() -> impl Strategy<Value = Place> {
    let queue = || 0..4u8;
    let offset = || prop_oneof![0..16u16, any::<u16>()];
    let index = prop_oneof![0..8u16, any::<u16>()];
    prop_oneof![
        3 => (queue(), index, select(vec![0, 8, 12, 14]))
            .prop_map(|(queue, index, field)| Place::Descriptor { queue, index, field }),
        2 => (queue(), offset()).prop_map(|(queue, offset)| Place::DriverArea { queue, offset }),
        1 => (queue(), offset()).prop_map(|(queue, offset)| Place::DeviceArea { queue, offset }),
        3 => offset().prop_map(|offset| Place::Table { offset }),
        6 => any::<u32>().prop_map(|offset| Place::Payload { offset }),
    ]
}

/// Numbers at the edges of something, more often than others.
fn value() -> impl Strategy<Value = u64> {
    const RAM: u64 = crate::RAM_BASE;
    const BORDER: u64 = RAM + (8 << 20);
    let edges = [0x7fff, 0x8000, 0x8001, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
    let addresses =
        [RAM - 1, RAM, BORDER - 1, BORDER, RAM + (16 << 20) - 1, u64::MAX - 1, u64::MAX];
    let interesting: Vec<u64> = edges.into_iter().chain(addresses).collect();
    prop_oneof![
        4 => 0..20u64,
        1 => (4..13u32).prop_map(|shift| 1 << shift),
        3 => select(interesting),
        2 => RAM..RAM + (16 << 20),
        1 => any::<u64>(),
    ]
}

fn width() -> impl Strategy<Value = usize> {
    select(vec![2, 4, 4, 8, 1])
}

fn register() -> impl Strategy<Value = u16> {
    prop_oneof![
        4 => (0..0x44u16).prop_map(|word| 4 * word),
        1 => 0..0x220u16,
    ]
}
