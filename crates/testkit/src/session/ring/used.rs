//! What the device gives back.

use vm_memory::GuestMemoryMmap;

use super::{AVAIL, Place, Returned, Ring, USED};
use crate::session::memory::load;
use crate::session::walk::Raw;

impl Ring {
    /// The next entry of the used ring, if the device has written it.
    pub(crate) fn next_used(&self, memory: &GuestMemoryMmap) -> Option<Returned> {
        let Place { index, wrap } = self.next_used;
        if self.packed {
            let raw = Raw::read(memory, self.at(index), true);
            let flags = raw.flags();
            let used = [AVAIL, USED].iter().all(|flag| (flags & flag != 0) == wrap);
            // Without WRITE, the length says nothing (VIRTIO 1.4 §2.8.4).
            let written = if raw.is_writable() { raw.len() } else { 0 };
            return used.then(|| (raw.link(), written));
        }
        let device = self.params.device;
        let load32 = |at: u64| u32::from_le_bytes(load(memory, device.wrapping_add(at)));
        if (load32(0) >> 16) as u16 == index {
            return None;
        }
        let entry = 4 + 8 * u64::from(index % self.params.size);
        Some((load32(entry) as u16, load32(entry + 4)))
    }

    /// Goes beyond the entry of the used ring that is for this chain. Which chains are thereby finished: with
    /// IN_ORDER also those before it, which then were written in full (VIRTIO 1.4 §2.7.9). None, when the
    /// device has no such chain.
    pub(crate) fn pass_used(&mut self, (id, written): Returned) -> Vec<Returned> {
        let Some(at) = self.waiting.iter().position(|waiting| *waiting == id) else {
            return vec![];
        };
        let first = if self.in_order { 0 } else { at };
        let passed: Vec<u16> = self.waiting.drain(first..=at).collect();
        let mut finished = vec![];
        for passed in passed {
            let Some(in_flight) = self.in_flight.get(&passed) else { continue };
            let written = if passed == id { written } else { in_flight.chain.room() };
            let entries = if self.packed { in_flight.entries } else { 1 };
            self.next_used = self.after(self.next_used, entries);
            finished.push((passed, written));
        }
        finished
    }
}
