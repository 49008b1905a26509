//! What the driver lends.

use cubie_virtq::driver::Buffer;
use vm_memory::GuestMemoryMmap;

use super::{AVAIL, Ring, USED};
use crate::session::memory::{changes, copy};
use crate::session::step::{Chain, Piece};
use crate::session::walk::{Raw, Walk};

impl Ring {
    /// What the driver has changed of its own part since the last time, and the chains that it made
    /// available.
    pub(crate) fn lent(&mut self, memory: &GuestMemoryMmap) -> (Vec<Piece>, Vec<Chain>) {
        let area = copy(memory, self.params.driver, self.area_len());
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
            let raw = Raw::read(memory, self.at(index), false);
            if !walk.descriptor(self.at(index), raw) {
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
            if flags & (AVAIL | USED) != self.available() {
                break;
            }
            chains.push(self.packed_chain(memory, None));
        }
        chains
    }

    /// The chain at the next place; with its first descriptor as it is going to be, if it is not there yet.
    fn packed_chain(&mut self, memory: &GuestMemoryMmap, mut first: Option<Raw>) -> Chain {
        let mut walk = Walk::new(memory, true);
        let (mut place, mut entries) = (self.next_avail, 0);
        let id = loop {
            let raw = first.take().unwrap_or_else(|| Raw::read(memory, self.at(place.index), true));
            let more = walk.descriptor(self.at(place.index), raw);
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

    /// The driver is about to show the device a chain of a packed ring, whose descriptors it has written but
    /// for the first one's flags. This is the last moment to see it for sure: a device that is awake may
    /// have used it, and written over it, before the driver does anything else.
    pub(crate) fn announced(
        &mut self,
        memory: &GuestMemoryMmap,
        (id, buffers, table): (u16, &[Buffer], Option<u64>),
    ) -> Option<Chain> {
        let first = match table {
            Some(at) => Raw::table(at, buffers.len(), id),
            None => Raw::buffer(buffers.first()?, buffers.len() > 1, id),
        };
        let there = Raw::read(memory, self.at(self.next_avail.index), true);
        // Chains that were added before, and not shown, go first.
        if !self.packed || there.address() != first.address() {
            return None;
        }
        Some(self.packed_chain(memory, Some(first.with_flags(self.available()))))
    }

    /// The flags of an available descriptor, this time round.
    fn available(&self) -> u16 {
        if self.next_avail.wrap { AVAIL } else { USED }
    }
}
