//! The packed ring (VIRTIO 1.4 §2.8), the device's end. The picture is on the crate's page.
//!
//! Length, id and flags share the aligned upper half of a descriptor, and are read and written as one:
//! so a descriptor is read by two loads, and used by one store. Of a batch of used descriptors the
//! first is stored last: the driver waits for it (§2.8.2), and with it sees all (the device may reorder
//! its writes, §2.8.12).

use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::{
    VRING_PACKED_EVENT_FLAG_DESC, VRING_PACKED_EVENT_FLAG_DISABLE, VRING_PACKED_EVENT_FLAG_ENABLE,
};

use crate::chain::Body;
use crate::memory::{Part, Table, Translator, Window};
use crate::place::{AVAIL, Place, USED};
use crate::ring::{AnyRing, Taken};
use crate::walk::{DESC_SIZE, Descriptor, WRITE, Walk};
use crate::{Features, QueueError, QueueParams, QueueState};

#[derive(Debug)]
pub(crate) struct PackedRing {
    size: u16,
    desc: Table,
    driver: Window<4>,
    device: Window<4>,
    event_idx: bool,
    indirect: bool,
    next_avail: Place,
    next_used: Place,
    /// The batch's first used descriptor, not yet stored: where, and its upper half.
    first: Option<(Place, u64)>,
    /// Entries used since the driver was last considered for an interrupt.
    unsignalled: u16,
    /// The device's event suppression structure, as last stored.
    asked: Option<u32>,
}

impl AnyRing for PackedRing {
    /// The upper half of its first descriptor.
    #[inline]
    fn peek(&mut self) -> Result<Option<u64>, QueueError> {
        Ok(self.look())
    }

    #[inline]
    fn take(
        &mut self,
        next: u64,
        memory: &mut Translator,
        body: &mut Body,
    ) -> Result<Taken, QueueError> {
        let taken = self.walk(next, Walk::new(self.size, memory, body))?;
        if taken.id >= self.size {
            return Err(QueueError::BufferId { id: taken.id, size: self.size });
        }
        self.next_avail = self.next_avail.forward(taken.entries, self.size);
        Ok(taken)
    }

    fn unpop(&mut self, taken: Taken) {
        self.next_avail = self.next_avail.back(taken.entries, self.size);
    }

    #[inline]
    fn push(&mut self, taken: Taken, written: u32) {
        let here = self.next_used;
        // WRITE says that the length means something (VIRTIO 1.4 §2.8.3, §2.8.4).
        let flags = here.used() | if written > 0 { WRITE } else { 0 };
        let upper = u64::from(written) | u64::from(taken.id) << 32 | u64::from(flags) << 48;
        match self.first {
            None => self.first = Some((here, upper)),
            Some(_) => self.desc.store64(at(here) + UPPER, upper),
        }
        self.next_used = here.forward(taken.entries, self.size);
        self.unsignalled = self.unsignalled.saturating_add(taken.entries);
    }
}

impl PackedRing {
    pub(crate) fn new(
        params: &QueueParams,
        state: QueueState,
        features: Features,
        memory: &mut Translator,
    ) -> Result<Self, QueueError> {
        let size = params.size;
        if size == 0 || size > 1 << 15 {
            return Err(QueueError::Size(size));
        }
        let (desc, driver, device) = parts(params, memory)?;
        // A state that no ring of this size can have is the host's mistake; it stays in the ring.
        let place = |state: u16| Place(state).within(size);
        Ok(Self {
            size,
            desc,
            driver,
            device,
            event_idx: features.has(Features::EVENT_IDX),
            indirect: features.has(Features::INDIRECT),
            next_avail: place(state.next_avail),
            next_used: place(state.next_used),
            first: None,
            unsignalled: 0,
            asked: None,
        })
    }

    pub(crate) fn remap(
        &mut self,
        params: &QueueParams,
        memory: &mut Translator,
    ) -> Result<(), QueueError> {
        (self.desc, self.driver, self.device) = parts(params, memory)?;
        Ok(())
    }

    pub(crate) fn state(&self) -> QueueState {
        QueueState { next_avail: self.next_avail.0, next_used: self.next_used.0 }
    }

    /// The next descriptor's upper half, if it is available.
    #[inline]
    fn look(&self) -> Option<u64> {
        // Acquire: the driver has written the whole chain before these flags (VIRTIO 1.4 §2.8.6).
        let upper = self.desc.load64_acquire(at(self.next_avail) + UPPER);
        let flags = (upper >> 48) as u16;
        (flags & (AVAIL | USED) == self.next_avail.available()).then_some(upper)
    }

    /// Follows the chain whose first descriptor has the upper half `upper`. The availability of the
    /// others is not looked at: the first one's stands for all.
    #[inline]
    fn walk(&self, mut upper: u64, mut walk: Walk<'_>) -> Result<Taken, QueueError> {
        let (mut index, mut entries) = (self.next_avail.index(), 1);
        let mut address = self.desc.load64(DESC_SIZE * usize::from(index));
        loop {
            let desc = descriptor(address, upper);
            if desc.is_table() {
                return self.walk_table(address, upper, entries, walk);
            }
            walk.add(desc)?;
            if !desc.has_next() {
                return Ok(Taken { id: desc.link, entries, descriptors: entries });
            }
            entries += 1;
            index = if index + 1 == self.size { 0 } else { index + 1 };
            [address, upper] = self.desc.load_pair(DESC_SIZE * usize::from(index));
        }
    }

    /// The chain is the table that a descriptor names: all of it, and of its flags only WRITE means
    /// something (VIRTIO 1.4 §2.8.7). Not inlined, and handed the halves: the registers belong to the loop
    /// above.
    #[inline(never)]
    fn walk_table(
        &self,
        address: u64,
        upper: u64,
        entries: u16,
        mut walk: Walk<'_>,
    ) -> Result<Taken, QueueError> {
        if entries > 1 {
            return Err(QueueError::Indirect("a table behind other buffers"));
        }
        let desc = descriptor(address, upper);
        let (table, buffers) = walk.table(desc, self.indirect)?;
        for i in 0..usize::from(buffers) {
            let [address, upper] = table.load_pair(DESC_SIZE * i);
            walk.add(descriptor(address, upper))?;
        }
        Ok(Taken { id: desc.link, entries, descriptors: entries })
    }

    #[inline]
    pub(crate) fn publish(&mut self) {
        if let Some((place, upper)) = self.first.take() {
            self.desc.store64_release(at(place) + UPPER, upper);
        }
    }

    #[inline]
    pub(crate) fn wants_interrupt(&mut self) -> bool {
        // The driver stores its wish, then looks at the descriptor: without the full fence both could
        // read old values and wait for each other.
        fence(Ordering::SeqCst);
        let count = std::mem::take(&mut self.unsignalled);
        let wish = self.driver.load32(0);
        match wish >> 16 & 3 {
            VRING_PACKED_EVENT_FLAG_DISABLE => false,
            VRING_PACKED_EVENT_FLAG_DESC if self.event_idx => {
                self.next_used.has_passed(Place(wish as u16), count, self.size)
            }
            _ => true,
        }
    }

    #[inline]
    pub(crate) fn enable_kicks(&mut self) -> Result<bool, QueueError> {
        self.ask(match self.event_idx {
            true => VRING_PACKED_EVENT_FLAG_DESC << 16 | u32::from(self.next_avail.0),
            false => VRING_PACKED_EVENT_FLAG_ENABLE << 16,
        });
        fence(Ordering::SeqCst);
        Ok(self.look().is_some())
    }

    #[inline]
    pub(crate) fn disable_kicks(&mut self) {
        // With event index, a place that the driver has passed already says the same, and costs no
        // second store into a cache line that the driver reads.
        if !self.event_idx {
            self.ask(VRING_PACKED_EVENT_FLAG_DISABLE << 16);
        }
    }

    pub(crate) fn silence_kicks(&mut self) {
        self.ask(VRING_PACKED_EVENT_FLAG_DISABLE << 16);
    }

    #[inline]
    fn ask(&mut self, wish: u32) {
        if self.asked.replace(wish) != Some(wish) {
            self.device.store32(0, wish);
        }
    }
}

/// The upper half of a descriptor begins here: length, id, flags.
pub(crate) const UPPER: usize = 8;

#[inline]
pub(crate) fn at(place: Place) -> usize {
    DESC_SIZE * usize::from(place.index())
}

#[inline]
fn descriptor(address: u64, upper: u64) -> Descriptor {
    let (len, link, flags) = (upper as u32, (upper >> 32) as u16, (upper >> 48) as u16);
    Descriptor { address, len, flags, link }
}

/// Descriptor ring, the driver's event suppression structure, the device's.
type Parts = (Table, Window<4>, Window<4>);

fn parts(params: &QueueParams, memory: &mut Translator) -> Result<Parts, QueueError> {
    let [desc, driver, device] = shape(params.size);
    Ok((
        memory.part(desc, params.desc)?,
        memory.part(driver, params.driver)?,
        memory.part(device, params.device)?,
    ))
}

/// The parts of a packed ring (VIRTIO 1.4 §2.8.10).
pub(crate) fn shape(size: u16) -> [Part; 3] {
    [
        ("descriptor ring", DESC_SIZE * usize::from(size), 16),
        ("driver event suppression structure", 4, 4),
        ("device event suppression structure", 4, 4),
    ]
}
