//! A device with a packed ring as the standard tells it (VIRTIO 1.4 §2.8), step by step and slowly.

use std::sync::Arc;

use crate::history::*;
use cubie_virtq::driver::Buffer;
use cubie_virtq::{Features, QueueParams};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const TABLE: u16 = 4;
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Ring offset and wrap counter (§2.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u16,
    pub(crate) wrap: bool,
}

impl Place {
    pub(crate) const START: Self = Self { offset: 0, wrap: true };

    fn step(&mut self, size: u16) {
        self.offset += 1;
        if self.offset == size {
            *self = Self { offset: 0, wrap: !self.wrap };
        }
    }
}

/// The last descriptor's fields as they lie in memory (§2.8.13).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) id: u16,
    pub(crate) flags: u16,
}

pub(crate) struct Model {
    memory: Arc<GuestMemoryMmap>,
    params: QueueParams,
    event_idx: bool,
    next_avail: Place,
    pub(crate) next_used: Place,
    /// Where `next_used` was when the driver was last considered for an interrupt.
    signalled: Place,
    /// Buffer id, descriptors in the ring, buffers.
    pub(crate) taken: Vec<(u16, u16, Vec<Buffer>)>,
}

impl Model {
    pub(crate) fn new(memory: &Arc<GuestMemoryMmap>, size: u16, features: Features) -> Self {
        Self {
            memory: memory.clone(),
            params: params(size, features),
            event_idx: features.has(EVENT_IDX),
            next_avail: Place::START,
            next_used: Place::START,
            signalled: Place::START,
            taken: vec![],
        }
    }

    fn read16(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.memory.read_obj(GuestAddress(at)).unwrap())
    }

    pub(crate) fn write16(&self, at: u64, value: u16) {
        self.memory.write_obj(value.to_le_bytes(), GuestAddress(at)).unwrap();
    }

    pub(crate) fn descriptor(&self, table: u64, index: u16) -> Descriptor {
        let at = table + 16 * u64::from(index);
        let address = u64::from_le_bytes(self.memory.read_obj(GuestAddress(at)).unwrap());
        let len = u32::from_le_bytes(self.memory.read_obj(GuestAddress(at + 8)).unwrap());
        Descriptor { address, len, id: self.read16(at + 12), flags: self.read16(at + 14) }
    }

    /// The buffers of an indirect table: its length says how many, and no flag but WRITE is set.
    fn table(&self, descriptor: Descriptor) -> Vec<Buffer> {
        assert_eq!((descriptor.flags & (WRITE | NEXT), descriptor.len % 16), (0, 0));
        let entry = |index| {
            let Descriptor { address, len, flags, .. } = self.descriptor(descriptor.address, index);
            assert_eq!(flags & !WRITE, 0);
            Buffer { address, len, writable: flags & WRITE != 0 }
        };
        (0..descriptor.len as u16 / 16).map(entry).collect()
    }

    /// Writes a used descriptor where the next one goes (§2.8.3, §2.8.4).
    pub(crate) fn write_used(&self, id: u16, written: u32) {
        let at = self.params.desc + 16 * u64::from(self.next_used.offset);
        self.memory.write_obj(written.to_le_bytes(), GuestAddress(at + 8)).unwrap();
        self.write16(at + 12, id);
        let write = if written > 0 { WRITE } else { 0 };
        self.write16(at + 14, write | if self.next_used.wrap { AVAIL | USED } else { 0 });
    }

    /// The device's event suppression structure (§2.8.14).
    pub(crate) fn write_events(&self, place: Place, flags: u16) {
        self.write16(self.params.device, place.offset | u16::from(place.wrap) << 15);
        self.write16(self.params.device + 2, flags);
    }

    fn is_available(&self) -> bool {
        let flags = self.descriptor(self.params.desc, self.next_avail.offset).flags;
        (flags & AVAIL != 0) == self.next_avail.wrap && (flags & USED != 0) != self.next_avail.wrap
    }
}

impl Device for Model {
    fn take(&mut self) -> Option<Taken> {
        if !self.is_available() {
            return None;
        }
        let (mut buffers, mut count) = (vec![], 0);
        let last = loop {
            let descriptor = self.descriptor(self.params.desc, self.next_avail.offset);
            assert!(self.is_available(), "a chain is available as a whole");
            let Descriptor { address, len, flags, .. } = descriptor;
            if flags & TABLE != 0 {
                buffers.extend(self.table(descriptor));
            } else {
                buffers.push(Buffer { address, len, writable: flags & WRITE != 0 });
            }
            count += 1;
            self.next_avail.step(self.params.size);
            if flags & NEXT == 0 {
                break descriptor;
            }
        };
        let taken = taken(&self.memory, &buffers);
        self.taken.push((last.id, count, buffers));
        Some(taken)
    }

    fn complete(&mut self, chains: Vec<(usize, Vec<u8>)>) {
        let (mut passed, mut last) = (0, (0, 0));
        for (_, data) in &chains {
            let (id, count, buffers) = self.taken.remove(chains[0].0);
            scatter(&self.memory, &buffers, data);
            passed += count;
            last = (id, data.len() as u32);
        }
        self.write_used(last.0, last.1);
        (0..passed).for_each(|_| self.next_used.step(self.params.size));
    }

    fn wants_interrupt(&mut self) -> bool {
        let old = std::mem::replace(&mut self.signalled, self.next_used);
        let event = self.read16(self.params.driver);
        let event = Place { offset: event & 0x7fff, wrap: event >> 15 == 1 };
        match self.read16(self.params.driver + 2) {
            0 => true,
            1 => false,
            2 => {
                assert!(self.event_idx, "only with event index");
                let mut place = old;
                let mut places = std::iter::from_fn(|| {
                    let here = place;
                    place.step(self.params.size);
                    (here != self.next_used).then_some(here)
                });
                places.any(|place| place == event)
            }
            other => panic!("reserved event flags {other}"),
        }
    }

    fn arm(&mut self) -> bool {
        self.write_events(self.next_avail, if self.event_idx { 2 } else { 0 });
        self.is_available()
    }
}
