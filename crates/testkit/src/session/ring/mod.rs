//! A queue, seen from the side: what its driver lends and what its device gives back.

mod avail;
mod replay;
mod used;

use std::collections::{BTreeMap, VecDeque};

use cubie_virtio_core::Features;
use cubie_virtq::QueueParams;
use vm_memory::GuestMemoryMmap;

use super::memory::copy;
use super::step::Chain;
use super::walk::{DESCRIPTOR, MOST};

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
    in_order: bool,
    next_avail: Place,
    next_used: Place,
    /// The driver's own part as last seen.
    area: Vec<u8>,
    in_flight: BTreeMap<u16, InFlight>,
    /// Those of them whose entry of the used ring was not passed yet, in the order in which they were lent.
    waiting: VecDeque<u16>,
}

impl Ring {
    pub(crate) fn new(params: QueueParams, features: Features) -> Self {
        let start = Place { index: 0, wrap: true };
        Self {
            params,
            packed: features.has(Features::PACKED),
            in_order: features.has(Features::IN_ORDER),
            next_avail: start,
            next_used: start,
            area: vec![],
            in_flight: BTreeMap::new(),
            waiting: VecDeque::new(),
        }
    }

    fn lend(&mut self, memory: &GuestMemoryMmap, chain: &Chain, entries: u16) {
        let before = chain.writable().fold(vec![], |mut before, buffer| {
            let room = (buffer.len as usize).min(MOST - before.len());
            before.extend(copy(memory, buffer.at, room));
            before
        });
        self.waiting.retain(|id| *id != chain.id);
        self.waiting.push_back(chain.id);
        self.in_flight.insert(chain.id, InFlight { chain: chain.clone(), before, entries });
    }

    /// A chain that the device has.
    pub(crate) fn in_flight(&self, id: u16) -> Option<&InFlight> {
        self.in_flight.get(&id)
    }

    /// The driver has taken the chain back.
    pub(crate) fn take(&mut self, id: u16) -> Option<InFlight> {
        self.waiting.retain(|waiting| *waiting != id);
        self.in_flight.remove(&id)
    }

    /// Bytes of the driver's own part.
    fn area_len(&self) -> usize {
        if self.packed { 4 } else { 6 + 2 * usize::from(self.params.size) }
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
                if let Some(end) = ring.next_used(&memory) {
                    ring.pass_used(end);
                    ring.take(end.0);
                }
            }
        }
    }
}
