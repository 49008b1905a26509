//! The driver's end of a packed ring, by hand.

use crate::bench::*;
use cubie_virtq::{Features, QueueState, Serve};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

pub(crate) const PACKED: Features = Features::VERSION_1.with(Features::PACKED);
pub(crate) const ON: u16 = 0;
pub(crate) const OFF: u16 = 1;
pub(crate) const THERE: u16 = 2;

/// Bits of a descriptor's flags: AVAIL and USED.
const A: u16 = 1 << 7;
const U: u16 = 1 << 15;

/// A place in the ring: the index, and the wrap counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At(pub(crate) u16, pub(crate) bool);

impl At {
    pub(crate) fn step(&mut self, size: u16) {
        self.0 += 1;
        if self.0 == size {
            *self = Self(0, !self.1);
        }
    }

    pub(crate) fn word(self) -> u16 {
        self.0 | u16::from(self.1) << 15
    }
}

pub(crate) struct Hand {
    pub(crate) bench: Bench,
    pub(crate) next: At,
    pub(crate) used: At,
}

impl Hand {
    pub(crate) fn new(size: u16, features: Features) -> Self {
        let features = features.with(PACKED);
        Self { bench: Bench::new(size, features), next: At(0, true), used: At(0, true) }
    }

    pub(crate) fn going_on(size: u16, memory: std::sync::Arc<GuestMemoryMmap>, from: At) -> Self {
        let state = QueueState { next_avail: from.word(), next_used: from.word() };
        let bench = Bench::with(memory, params(size), PACKED, state).unwrap();
        Self { bench, next: from, used: from }
    }

    /// Writes a descriptor as it is.
    pub(crate) fn raw(&self, table: u64, index: u16, desc: (u64, u32, u16, u16)) {
        let (address, len, id, flags) = desc;
        self.bench.descriptor(table, index, (address, len, id, flags));
    }

    /// Writes a chain of buffers, the first last, and returns the entries that it took.
    pub(crate) fn offer(&mut self, id: u16, buffers: &[(u64, u32, u16)]) -> u16 {
        let mut places = vec![];
        for (n, (address, len, flags)) in buffers.iter().enumerate() {
            let wrap = if self.next.1 { A } else { U };
            let more = if n + 1 < buffers.len() { NEXT } else { 0 };
            places.push((self.next.0, (*address, *len, id, flags | wrap | more)));
            self.next.step(self.bench.size);
        }
        for (index, desc) in places.iter().rev() {
            self.raw(DESC, *index, *desc);
        }
        places.len() as u16
    }

    /// The used descriptor that the driver waits for, if it is there: id and length, none without the
    /// WRITE flag. `entries` of the chain is what the driver passes over.
    pub(crate) fn used(&mut self, entries: u16) -> Option<(u16, Option<u32>)> {
        let (len, id, flags) = self.upper(self.used.0);
        let bits = if self.used.1 { A | U } else { 0 };
        if flags & (A | U) != bits {
            return None;
        }
        (0..entries).for_each(|_| self.used.step(self.bench.size));
        Some((id, (flags & WRITE != 0).then_some(len)))
    }

    pub(crate) fn upper(&self, index: u16) -> (u32, u16, u16) {
        upper(&self.bench.memory, index)
    }

    /// What the driver wants to be told.
    pub(crate) fn wish(&self, place: u16, flags: u16) {
        self.bench.set16(AVAIL, place);
        self.bench.set16(AVAIL + 2, flags);
    }

    /// What the device wants to be told.
    pub(crate) fn asked(&self) -> (u16, u16) {
        (self.bench.get16(USED), self.bench.get16(USED + 2))
    }

    /// Serves all chains; their heads.
    pub(crate) fn serve(&mut self) -> Vec<u16> {
        let mut heads = vec![];
        self.bench.queue.drain(|chain| {
            heads.push(chain.head());
            Serve::Done(chain, 0)
        });
        heads
    }
}

/// Length, id and flags of a descriptor in the ring.
pub(crate) fn upper(memory: &GuestMemoryMmap, index: u16) -> (u32, u16, u16) {
    let at = GuestAddress(DESC + 16 * u64::from(index) + 8);
    let word = u64::from_le(memory.read_obj(at).unwrap());
    (word as u32, (word >> 32) as u16, (word >> 48) as u16)
}

/// Is the descriptor marked used in this round?
pub(crate) fn is_used(memory: &GuestMemoryMmap, at: At) -> bool {
    upper(memory, at.0).2 & (A | U) == if at.1 { A | U } else { 0 }
}
