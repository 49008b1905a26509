//! Random lives of a queue: what a driver and a device may do, in any order.

use std::sync::Arc;

use cubie_virtq::driver::{Buffer, DriverQueue};
use cubie_virtq::{Features, QueueParams};
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

pub(crate) const RING: u64 = 0x1000;
/// The first region ends here: the first buffers lie before it, the others behind.
const SEAM: u64 = 0x8_0000;
pub(crate) const DATA: u64 = SEAM - 0x1000;
pub(crate) const TABLES: u64 = 0xa_0000;
const END: u64 = 0x10_0000;
/// Buffers and tables get their places in turn: more of them than can be in flight.
pub(crate) const STRIDE: u64 = 64;
pub(crate) const PLACES: u64 = 1024;
pub(crate) const TABLE_STRIDE: u64 = 256;

pub(crate) const PACKED: Features = Features::PACKED;
pub(crate) const IN_ORDER: Features = Features::IN_ORDER;
pub(crate) const EVENT_IDX: Features = Features::EVENT_IDX;
pub(crate) const INDIRECT: Features = Features::INDIRECT;

pub(crate) fn memory() -> Arc<GuestMemoryMmap> {
    let regions = [(GuestAddress(0), SEAM as usize), (GuestAddress(SEAM), (END - SEAM) as usize)];
    Arc::new(GuestMemoryMmap::from_ranges(&regions).unwrap())
}

pub(crate) fn params(size: u16, features: Features) -> QueueParams {
    let (params, bytes) = QueueParams::contiguous(RING, size, features);
    assert!(RING + bytes <= DATA);
    params
}

pub(crate) fn driver(memory: &Arc<GuestMemoryMmap>, size: u16, features: Features) -> DriverQueue {
    DriverQueue::new(memory.clone(), params(size, features), features).unwrap()
}

/// A chain as the device sees it: what it reads, and how much it may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) read: Vec<u8>,
    pub(crate) room: usize,
}

/// The other end. It keeps the chains it has taken, oldest first.
pub(crate) trait Device {
    /// With IN_ORDER it takes completions in any order, and holds back what is too early.
    const HOLDS_BACK: bool = false;
    /// Takes the next chain.
    fn take(&mut self) -> Option<Taken>;
    /// Writes this into the buffers of these chains (places among those taken), which are then used,
    /// and shown to the driver all at once. More than one only with IN_ORDER, where all but the last
    /// are written in full.
    fn complete(&mut self, chains: Vec<(usize, Vec<u8>)>);
    /// True when the driver is to be interrupted for what was completed since the last time.
    fn wants_interrupt(&mut self) -> bool;
    /// Asks for a kick with the next chain. True if there is one.
    fn arm(&mut self) -> bool;
}

/// What happens next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Add { readable: Vec<u8>, writable: Vec<u8>, indirect: bool },
    Publish,
    Take(u8),
    Complete { which: prop::sample::Index, batch: u8, written: prop::sample::Index },
    Pop(u8),
    EnableInterrupts,
    DisableInterrupts,
    Arm,
}

/// Many steps; chains of up to six buffers of up to 60 bytes.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lengths = || prop::collection::vec(1u8..60, 0..4);
    let index = any::<prop::sample::Index>;
    let add = (lengths(), lengths(), any::<bool>())
        .prop_map(|(readable, writable, indirect)| Step::Add { readable, writable, indirect });
    let complete = (index(), 1u8..5, index()).prop_map(|(which, batch, written)| Step::Complete {
        which,
        batch,
        written,
    });
    let step = prop_oneof![
        6 => add,
        3 => Just(Step::Publish),
        4 => (1u8..8).prop_map(Step::Take),
        4 => complete,
        3 => (1u8..8).prop_map(Step::Pop),
        1 => Just(Step::EnableInterrupts),
        1 => Just(Step::DisableInterrupts),
        1 => Just(Step::Arm),
    ];
    prop::collection::vec(step, 1..if cfg!(miri) { 40 } else { 400 })
}

/// As often as it is quick.
pub(crate) fn cases() -> ProptestConfig {
    let mut config = ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 128 });
    // Miri isolates tests from the host's files.
    config.failure_persistence = None;
    config
}

pub(crate) fn bytes(memory: &GuestMemoryMmap, buffer: &Buffer) -> Vec<u8> {
    let mut bytes = vec![0; buffer.len as usize];
    memory.read_slice(&mut bytes, GuestAddress(buffer.address)).unwrap();
    bytes
}

/// What a device without a chain of its own makes of a list of buffers.
pub(crate) fn taken(memory: &GuestMemoryMmap, buffers: &[Buffer]) -> Taken {
    let (writable, readable): (Vec<Buffer>, _) = buffers.iter().partition(|b| b.writable);
    let read = readable.iter().flat_map(|buffer: &Buffer| bytes(memory, buffer)).collect();
    Taken { read, room: writable.iter().map(|buffer| buffer.len as usize).sum() }
}

/// Writes `data` over the writable ones.
pub(crate) fn scatter(memory: &GuestMemoryMmap, buffers: &[Buffer], mut data: &[u8]) {
    for buffer in buffers.iter().filter(|buffer| buffer.writable) {
        let (here, rest) = data.split_at(data.len().min(buffer.len as usize));
        memory.write_slice(here, GuestAddress(buffer.address)).unwrap();
        data = rest;
    }
}
