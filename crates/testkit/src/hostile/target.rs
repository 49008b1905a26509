//! What stores to memory hit.

use std::sync::{Mutex, PoisonError};

use cubie_virtq::QueueParams;
use vm_memory::{Bytes, GuestAddress};

use super::step::{Place, Poke};
use crate::Guest;
use crate::garbage::{Arena, Random};

/// Bytes of the memory for indirect tables, which is one for all chains: they overlap.
const TABLES: u64 = 4096;
/// Bytes from one table to the next that a chain may have.
const TABLE: u64 = 256;

/// The memory that a device and its driver share.
pub(super) struct Target {
    pub(super) arena: Arena,
    tables: u64,
    /// Where the rings of now lie.
    queues: Mutex<Vec<QueueParams>>,
}

impl Target {
    pub(super) fn new(guest: &Guest) -> Self {
        Self {
            arena: Arena::new(guest, &mut Random(0)),
            tables: guest.buffer(TABLES as usize).0,
            queues: Mutex::default(),
        }
    }

    /// Stores to rings go to these from now on.
    pub(super) fn aim(&self, queues: Vec<QueueParams>) {
        *self.queues.lock().unwrap_or_else(PoisonError::into_inner) = queues;
    }

    /// A place for a table of indirect descriptors, which others may have as well.
    pub(super) fn table(&self, random: &mut Random) -> u64 {
        self.tables + TABLE * random.below(TABLES / TABLE)
    }

    /// Stores to memory, one after the other.
    pub(super) fn hit<'a>(&self, guest: &Guest, pokes: impl IntoIterator<Item = &'a Poke>) {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        for Poke { place, value, width } in pokes {
            if let Some(address) = self.address(&queues, *place) {
                let (bytes, address) = (&value.to_le_bytes()[..*width], GuestAddress(address));
                guest.memory().write_slice(bytes, address).expect("a place in memory");
            }
        }
    }

    /// `None` for a ring of a device that has none.
    fn address(&self, queues: &[QueueParams], place: Place) -> Option<u64> {
        let params = |queue: u8| queues.get(usize::from(queue) % queues.len().max(1)).copied();
        match place {
            Place::Descriptor { queue, index, field } => params(queue)
                .map(|params| params.desc + 16 * u64::from(index % params.size) + field),
            Place::DriverArea { queue, offset } => params(queue)
                .map(|params| params.driver + u64::from(offset) % (params.device - params.driver)),
            Place::DeviceArea { queue, offset } => params(queue)
                .map(|params| params.device + u64::from(offset) % (8 * u64::from(params.size) + 6)),
            Place::Table { offset } => Some(self.tables + u64::from(offset) % TABLES),
            Place::Payload { writable, offset } => Some(self.arena.at(writable, offset)),
        }
    }
}
