//! What happens to a transport.

use proptest::prelude::*;

use crate::model::OFFERED;

/// What happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A word is written to a register.
    Set(u32, u32),
    /// Bytes are written anywhere.
    Write(u64, Vec<u8>),
    /// Several steps of a driver that knows what it does: up to FEATURES_OK with these features, a queue
    /// set up with a size, DRIVER_OK, a queue taken back.
    Negotiate(u64),
    SetUp(u32, u32),
    Ready,
    TakeBack(u32),
    /// The device changes its configuration.
    Change(u8),
    UsedBuffers,
    /// Bytes are read anywhere.
    Read(u64, usize),
    /// The device is saved and goes on; here, or in another transport.
    Save,
    Move,
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let known = prop::sample::select(vec![
        0x14, 0x20, 0x24, 0x28, 0x30, 0x38, 0x3c, 0x40, 0x44, 0x50, 0x64, 0x70, 0x80, 0xac, 0xc0,
    ]);
    let register = prop_oneof![4 => known, 1 => (0..0x40u32).prop_map(|word| 4 * word)];
    let powers = (0..32u32).prop_map(|bit| 1 << bit);
    let status = prop::sample::select(vec![0, 1, 3, 7, 11, 15, 0x80, 0x4f]);
    let value = prop_oneof![8 => 0..20u32, 2 => powers, 3 => status, 1 => any::<u32>()];
    let features = prop_oneof![
        Just(1 << 32),
        any::<u64>().prop_map(|chosen| chosen & OFFERED | 1 << 32 | 1 << 40),
        any::<u64>(),
    ];
    prop_oneof![
        12 => (register, value).prop_map(|(register, value)| Event::Set(register, value)),
        1 => (0..0x110u64, prop::collection::vec(any::<u8>(), 1..=8))
            .prop_map(|(at, bytes)| Event::Write(at, bytes)),
        3 => features.prop_map(Event::Negotiate),
        6 => (0..2u32, prop::sample::select(vec![8, 8, 8, 0]))
            .prop_map(|(queue, size)| Event::SetUp(queue, size)),
        4 => Just(Event::Ready),
        2 => (0..2u32).prop_map(Event::TakeBack),
        1 => any::<u8>().prop_map(Event::Change),
        1 => Just(Event::UsedBuffers),
        1 => (0..0x120u64, prop::sample::select(vec![1, 2, 4, 8])).prop_map(|(at, len)| Event::Read(at, len)),
        1 => Just(Event::Save),
        2 => Just(Event::Move),
    ]
}
