//! The split ring (VIRTIO 1.4 §2.7), the device's end. The picture is on the crate's page.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::{VRING_AVAIL_F_NO_INTERRUPT, VRING_USED_F_NO_NOTIFY};
use vm_memory::GuestMemoryMmap;

use crate::chain::Body;
use crate::memory::{Part, Table, Translator, Window};
use crate::ring::{AnyRing, Taken, needs_event};
use crate::walk::{DESC_SIZE, Descriptor, Walk};
use crate::{Features, Inflight, QueueError, QueueParams, QueueState};

pub(crate) const USED_SIZE: usize = 8;
/// Both rings begin with flags (2 bytes), index (2 bytes); entries follow.
pub(crate) const FLAGS: usize = 0;
pub(crate) const INDEX: usize = 2;
pub(crate) const ENTRIES: usize = 4;

#[derive(Debug)]
pub(crate) struct SplitRing {
    /// The size less 1.
    mask: usize,
    desc: Table,
    avail: Window<2>,
    used: Window<4>,
    event_idx: bool,
    indirect: bool,
    next_avail: Index,
    /// The driver's index as last read: chains up to here are taken without looking again.
    seen_avail: Index,
    next_used: Index,
    /// `next_used` when the driver was last considered for an interrupt.
    signalled: Index,
    /// Where it is noted what is in flight, if somebody wants to know.
    inflight: Option<Box<Inflight>>,
}

/// A free-running index of 16 bits, kept in 32: compilers like to load 32 where there are 16, and such a
/// load waits until a 16-bit store before it is through (7 ns of a kick with one chain).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Index(u32);

impl Index {
    #[inline]
    fn at(index: u16) -> Self {
        Self(index.into())
    }

    #[inline]
    fn get(self) -> u16 {
        self.0 as u16
    }
}

impl AnyRing for SplitRing {
    /// The index of its first descriptor.
    #[inline]
    fn peek(&mut self) -> Result<Option<u64>, QueueError> {
        if let Some(head) = self.inflight.as_ref().and_then(|inflight| inflight.peek()) {
            return Ok(Some(head.into()));
        }
        if self.next_avail == self.seen_avail && !self.look()? {
            return Ok(None);
        }
        let slot = ENTRIES + 2 * (usize::from(self.next_avail.get()) & self.mask);
        Ok(Some(self.avail.load16(slot, Ordering::Relaxed).into()))
    }

    #[inline]
    fn take(
        &mut self,
        next: u64,
        memory: &mut Translator,
        body: &mut Body,
    ) -> Result<Taken, QueueError> {
        let id = next as u16;
        let descriptors = self.walk(id, Walk::new(self.size(), memory, body))?;
        self.next_avail = Index::at(self.next_avail.get().wrapping_add(1));
        if let Some(inflight) = &mut self.inflight
            && inflight.take(id)
        {
            // It stands before the place where the ring was looked at.
            self.seen_avail = self.next_avail;
        }
        Ok(Taken { id, entries: 1, descriptors })
    }

    fn unpop(&mut self, taken: Taken) {
        self.next_avail = Index::at(self.next_avail.get().wrapping_sub(taken.entries));
        if let Some(inflight) = &mut self.inflight {
            inflight.give_back(taken.id);
        }
    }

    #[inline]
    fn push(&mut self, taken: Taken, written: u32) {
        let slot = ENTRIES + USED_SIZE * (usize::from(self.next_used.get()) & self.mask);
        self.used.store32(slot, u32::from(taken.id));
        self.used.store32(slot + 4, written);
        if let Some(inflight) = &mut self.inflight {
            inflight.push(taken.id);
        }
        self.next_used = Index::at(self.next_used.get().wrapping_add(taken.entries));
    }
}

impl SplitRing {
    pub(crate) fn new(
        params: &QueueParams,
        state: QueueState,
        features: Features,
        memory: &mut Translator,
    ) -> Result<Self, QueueError> {
        let size = params.size;
        if !size.is_power_of_two() || size > 1 << 15 {
            return Err(QueueError::Size(size));
        }
        let (desc, avail, used) = parts(params, memory)?;
        Ok(Self {
            mask: usize::from(size) - 1,
            desc,
            avail,
            used,
            event_idx: features.has(Features::EVENT_IDX),
            indirect: features.has(Features::INDIRECT),
            next_avail: Index::at(state.next_avail),
            seen_avail: Index::at(state.next_avail),
            next_used: Index::at(state.next_used),
            signalled: Index::at(state.next_used),
            inflight: None,
        })
    }

    /// From now on notes what is in flight, and takes first what was according to the notes.
    pub(crate) fn track(&mut self, mut inflight: Inflight) {
        let used = self.used.load16(INDEX, Ordering::Acquire);
        inflight.resume(used);
        (self.next_used, self.signalled) = (Index::at(used), Index::at(used));
        // All that was taken is either used or will be taken again.
        (self.next_avail, self.seen_avail) = (Index::at(used), Index::at(used));
        self.inflight = Some(Box::new(inflight));
    }

    pub(crate) fn remap(
        &mut self,
        params: &QueueParams,
        memory: &mut Translator,
    ) -> Result<(), QueueError> {
        (self.desc, self.avail, self.used) = parts(params, memory)?;
        Ok(())
    }

    pub(crate) fn state(&self) -> QueueState {
        QueueState { next_avail: self.next_avail.get(), next_used: self.next_used.get() }
    }

    #[inline]
    fn size(&self) -> u16 {
        (self.mask + 1) as u16
    }

    /// Reads the driver's index; true when there is something to take.
    #[inline]
    fn look(&mut self) -> Result<bool, QueueError> {
        // Acquire: what the driver wrote before the index is read after it (VIRTIO 1.4 §2.7.13.3).
        let index = self.avail.load16(INDEX, Ordering::Acquire);
        let (next, size) = (self.next_avail.get(), self.size());
        if index.wrapping_sub(next) > size {
            return Err(QueueError::AvailableIndex { index, next, size });
        }
        self.seen_avail = Index::at(index);
        Ok(index != next)
    }

    /// Follows a chain from descriptor `index`. How many descriptors of the ring it takes up.
    #[inline]
    fn walk(&self, mut index: u16, mut walk: Walk<'_>) -> Result<u16, QueueError> {
        loop {
            let [address, rest] = load(&self.desc, self.size(), index)?;
            let desc = descriptor(address, rest);
            if desc.is_table() {
                let count = walk.count() + 1;
                return self.walk_table(address, rest, walk).map(|()| count);
            }
            walk.add(desc)?;
            if !desc.has_next() {
                return Ok(walk.count());
            }
            index = desc.link;
        }
    }

    /// Goes on in the table that a descriptor names. Not inlined, and handed its halves: the registers
    /// belong to the loop above.
    #[inline(never)]
    fn walk_table(&self, address: u64, rest: u64, mut walk: Walk<'_>) -> Result<(), QueueError> {
        let (table, entries) = walk.table(descriptor(address, rest), self.indirect)?;
        let mut index = 0;
        loop {
            let [address, rest] = load(&table, entries, index)?;
            let desc = descriptor(address, rest);
            if desc.is_table() {
                return Err(QueueError::Indirect("a table inside a table"));
            }
            walk.add(desc)?;
            if !desc.has_next() {
                return Ok(());
            }
            index = desc.link;
        }
    }

    #[inline]
    pub(crate) fn publish(&mut self) {
        self.used.store16(INDEX, self.next_used.get(), Ordering::Release);
        if let Some(inflight) = &mut self.inflight {
            inflight.publish(self.next_used.get());
        }
    }

    #[inline]
    pub(crate) fn wants_interrupt(&mut self) -> bool {
        // The driver stores its event index (or flag), then looks at ours: without the full fence
        // both could read old values and wait for each other (VIRTIO 1.4 §2.7.7.2).
        fence(Ordering::SeqCst);
        let old = std::mem::replace(&mut self.signalled, self.next_used);
        if !self.event_idx {
            let flags = self.avail.load16(FLAGS, Ordering::Relaxed);
            return flags & VRING_AVAIL_F_NO_INTERRUPT as u16 == 0;
        }
        let event = self.avail.load16(ENTRIES + 2 * usize::from(self.size()), Ordering::Relaxed);
        needs_event(event, self.next_used.get(), old.get())
    }

    #[inline]
    pub(crate) fn enable_kicks(&mut self) -> Result<bool, QueueError> {
        if self.event_idx {
            self.ask_for(self.next_avail.get());
        } else {
            self.used.store16(FLAGS, 0, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        self.look()
    }

    #[inline]
    pub(crate) fn disable_kicks(&mut self) {
        // With event index, an index that the driver has passed already says the same.
        if !self.event_idx {
            self.used.store16(FLAGS, VRING_USED_F_NO_NOTIFY as u16, Ordering::Relaxed);
        }
    }

    pub(crate) fn silence_kicks(&mut self) {
        self.disable_kicks();
        if self.event_idx {
            // The driver has passed it already.
            self.ask_for(self.next_avail.get().wrapping_sub(1));
        }
    }

    /// Asks for a kick with this chain.
    #[inline]
    fn ask_for(&self, avail: u16) {
        let slot = ENTRIES + USED_SIZE * usize::from(self.size());
        self.used.store16(slot, avail, Ordering::Relaxed);
    }
}

impl QueueParams {
    /// The used index that stands in a split ring, for a [`QueueState`] that came without it.
    ///
    /// # Errors
    /// When the used ring does not lie in `memory`.
    pub fn used_index(&self, memory: &Arc<GuestMemoryMmap>) -> Result<u16, QueueError> {
        let (_, _, used) = parts(self, &mut Translator::new(Arc::clone(memory)))?;
        Ok(used.load16(INDEX, Ordering::Relaxed))
    }
}

/// Descriptor table, available ring, used ring.
type Parts = (Table, Window<2>, Window<4>);

fn parts(params: &QueueParams, memory: &mut Translator) -> Result<Parts, QueueError> {
    let [desc, avail, used] = shape(params.size);
    Ok((
        memory.part(desc, params.desc)?,
        memory.part(avail, params.driver)?,
        memory.part(used, params.device)?,
    ))
}

/// The parts of a split ring (VIRTIO 1.4 §2.7); either ring ends in an event index.
pub(crate) fn shape(size: u16) -> [Part; 3] {
    let n = usize::from(size);
    [
        ("descriptor table", DESC_SIZE * n, 16),
        ("available ring", ENTRIES + 2 * n + 2, 2),
        ("used ring", ENTRIES + USED_SIZE * n + 2, 4),
    ]
}

/// The halves of a descriptor.
#[inline]
fn load(table: &Table, size: u16, index: u16) -> Result<[u64; 2], QueueError> {
    if index >= size {
        return Err(QueueError::DescriptorIndex { index, size });
    }
    Ok(table.load_pair(DESC_SIZE * usize::from(index)))
}

#[inline]
fn descriptor(address: u64, rest: u64) -> Descriptor {
    let (len, flags, link) = (rest as u32, (rest >> 32) as u16, (rest >> 48) as u16);
    Descriptor { address, len, flags, link }
}
