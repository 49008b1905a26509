//! A queue, seen from the side: what its driver lends and what its device gives back.

use std::collections::BTreeMap;

use cubie_virtio_core::Features;
use cubie_virtq::QueueParams;
use vm_memory::GuestMemoryMmap;

use super::memory::{changes, copy, load};
use super::step::{Chain, Piece};
use super::walk::{DESCRIPTOR, MOST, Raw, Walk};

/// Flags of a packed descriptor: equal for a used one, different for an available one (VIRTIO 1.4 §2.8.1).
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// A place in the ring. In a split one, `index` counts on, and there is no wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    index: u16,
    wrap: bool,
}

/// A chain that the device has.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    pub(crate) chain: Chain,
    /// What lay in its writable buffers.
    pub(crate) before: Vec<u8>,
    /// Entries of a packed ring that it takes.
    entries: u16,
}

/// A chain that the device has finished with, and the bytes that it says it has written.
pub(crate) type Returned = (u16, u32);

/// A queue from its setup to its reset. Its memory is taken to be zero at first, as drivers make it.
#[derive(Debug)]
pub(crate) struct Ring {
    params: QueueParams,
    packed: bool,
    next_avail: Place,
    next_used: Place,
    /// The driver's own part as last seen.
    area: Vec<u8>,
    in_flight: BTreeMap<u16, InFlight>,
}

impl Ring {
    pub(crate) fn new(params: QueueParams, features: Features) -> Self {
        let start = Place { index: 0, wrap: true };
        Self {
            params,
            packed: features.has(Features::PACKED),
            next_avail: start,
            next_used: start,
            area: vec![],
            in_flight: BTreeMap::new(),
        }
    }

    /// What the driver has changed of its own part since the last time, and the chains that it made
    /// available.
    pub(crate) fn lent(&mut self, memory: &GuestMemoryMmap) -> (Vec<Piece>, Vec<Chain>) {
        let size = usize::from(self.params.size);
        let len = if self.packed { 4 } else { 6 + 2 * size };
        let area = copy(memory, self.params.driver, len);
        let changed = changes(&self.area, &area);
        self.area = area;
        let chains = match self.packed {
            true => self.packed_chains(memory),
            false => self.split_chains(memory),
        };
        (changed, chains)
    }

    fn split_chains(&mut self, memory: &GuestMemoryMmap) -> Vec<Chain> {
        let size = self.params.size;
        let word =
            |at: usize| self.area.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
        let (next, index) = (self.next_avail.index, word(2));
        let news = index.wrapping_sub(next);
        // A jump of more than there are entries: the device has nothing to believe.
        if news > size {
            return vec![];
        }
        let slots = (0..news).map(|n| next.wrapping_add(n) % size);
        let heads: Vec<u16> = slots.map(|slot| word(4 + 2 * usize::from(slot))).collect();
        self.next_avail.index = index;
        heads.into_iter().map(|head| self.split_chain(memory, head)).collect()
    }

    fn split_chain(&mut self, memory: &GuestMemoryMmap, head: u16) -> Chain {
        let mut walk = Walk::new(memory, false);
        let mut index = head;
        for _ in 0..self.params.size {
            if index >= self.params.size {
                break;
            }
            let (raw, more) = walk.descriptor(self.at(index));
            if !more {
                break;
            }
            index = raw.link();
        }
        let chain = walk.end(head);
        self.lend(memory, &chain, 1);
        chain
    }

    fn packed_chains(&mut self, memory: &GuestMemoryMmap) -> Vec<Chain> {
        let mut chains = vec![];
        while chains.len() < self.params.size.into() {
            let flags = Raw::read(memory, self.at(self.next_avail.index), true).flags();
            let available = (flags & AVAIL != 0) == self.next_avail.wrap
                && (flags & USED != 0) != self.next_avail.wrap;
            if !available {
                break;
            }
            chains.push(self.packed_chain(memory));
        }
        chains
    }

    fn packed_chain(&mut self, memory: &GuestMemoryMmap) -> Chain {
        let mut walk = Walk::new(memory, true);
        let (mut place, mut entries) = (self.next_avail, 0);
        let id = loop {
            let (raw, more) = walk.descriptor(self.at(place.index));
            entries += 1;
            place = self.after(place, 1);
            if !more || entries == self.params.size {
                break raw.link();
            }
        };
        self.next_avail = place;
        let chain = walk.end(id);
        self.lend(memory, &chain, entries);
        chain
    }

    fn lend(&mut self, memory: &GuestMemoryMmap, chain: &Chain, entries: u16) {
        let before = chain.writable().fold(vec![], |mut before, buffer| {
            let room = (buffer.len as usize).min(MOST - before.len());
            before.extend(copy(memory, buffer.at, room));
            before
        });
        self.in_flight.insert(chain.id, InFlight { chain: chain.clone(), before, entries });
    }

    /// The next entry of the used ring, if the device has written it.
    pub(crate) fn next_used(&self, memory: &GuestMemoryMmap) -> Option<Returned> {
        let Place { index, wrap } = self.next_used;
        if self.packed {
            let raw = Raw::read(memory, self.at(index), true);
            let flags = raw.flags();
            let used = [AVAIL, USED].iter().all(|flag| (flags & flag != 0) == wrap);
            return used.then(|| (raw.link(), raw.len()));
        }
        let device = self.params.device;
        let load32 = |at: u64| u32::from_le_bytes(load(memory, device.wrapping_add(at)));
        if (load32(0) >> 16) as u16 == index {
            return None;
        }
        let entry = 4 + 8 * u64::from(index % self.params.size);
        Some((load32(entry) as u16, load32(entry + 4)))
    }

    /// A chain that the device has.
    pub(crate) fn in_flight(&self, id: u16) -> Option<&InFlight> {
        self.in_flight.get(&id)
    }

    /// Goes beyond the entry of the used ring that is for this chain.
    pub(crate) fn pass_used(&mut self, id: u16) {
        let entries = match (self.packed, self.in_flight.get(&id)) {
            (false, _) => 1,
            (true, Some(in_flight)) => in_flight.entries,
            (true, None) => return,
        };
        self.next_used = self.after(self.next_used, entries);
    }

    /// The driver has taken the chain back.
    pub(crate) fn take(&mut self, id: u16) -> Option<InFlight> {
        self.in_flight.remove(&id)
    }

    fn at(&self, index: u16) -> u64 {
        self.params.desc.wrapping_add(DESCRIPTOR * u64::from(index))
    }

    fn after(&self, place: Place, entries: u16) -> Place {
        let Place { index, wrap } = place;
        if !self.packed {
            return Place { index: index.wrapping_add(entries), wrap };
        }
        let sum = u32::from(index) + u32::from(entries);
        match sum.checked_sub(self.params.size.into()) {
            None => Place { index: sum as u16, wrap },
            Some(index) => Place { index: index as u16, wrap: !wrap },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::garbage::Random;
    use vm_memory::{Bytes, GuestAddress};

    /// Whatever lies in memory, it is read to an end, and nothing is lent twice for ever.
    #[test]
    fn garbage_is_followed_and_left() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0x1000), 0x4000)]).unwrap();
        let mut random = Random(7);
        for round in 0..300 {
            for at in (0x1000..0x5000).step_by(8) {
                // Small numbers are flags, lengths and addresses that can be followed.
                let value = random.next() >> (8 * random.below(8));
                memory.write_obj(value, GuestAddress(at)).unwrap();
            }
            let mut place = || [0x1000, 0x3000, u64::MAX - 64][random.below(3) as usize];
            let [desc, driver, device] = [(); 3].map(|()| place());
            let params = QueueParams { size: 1 << (round % 6), desc, driver, device };
            let features = if round % 2 == 0 { Features::PACKED } else { Features::default() };
            let mut ring = Ring::new(params, features);
            for _ in 0..4 {
                let (_, chains) = ring.lent(&memory);
                assert!(chains.len() <= params.size.into());
                if let Some((id, _)) = ring.next_used(&memory) {
                    ring.pass_used(id);
                    ring.take(id);
                }
            }
        }
    }
}
