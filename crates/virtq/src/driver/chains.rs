//! The chains in flight, and what is free for others. Private memory: no device can write here.

use super::{DriverError, Used};

/// One for each descriptor of a split ring, for each buffer id of a packed one.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The slot that follows, in a chain or among the free ones.
    next: u16,
    /// The chain that begins here: its last slot,
    last: u16,
    /// its descriptors (0: there is none),
    count: u16,
    /// how many chains were added before it, modulo 2¹⁶,
    sequence: u16,
    /// and its writable bytes.
    room: u32,
}

/// Which chains are in flight. A chain's token is its first slot.
///
/// Slots are reused last in, first out, as long as the device may return chains in any order. With
/// IN_ORDER they go round instead, as the standard wants of descriptors (VIRTIO 1.4 §2.7.9), and the
/// links never change.
#[derive(Debug)]
pub(super) struct Chains {
    slots: Vec<Slot>,
    in_order: bool,
    next_free: u16,
    /// Descriptors.
    free: u16,
    /// Chains so far, modulo 2¹⁶.
    pub(super) added: u16,
    pub(super) published: u16,
    pub(super) returned: u16,
    /// With IN_ORDER: the chain whose turn it is,
    oldest: u16,
    /// and the one that ends the batch that the device has returned as one.
    batch: Option<Used>,
}

/// A chain that has come back, and its number of descriptors.
pub(super) type Returned = (Used, u16);

impl Chains {
    pub(super) fn new(size: u16, in_order: bool) -> Self {
        let slot = |n| Slot { next: (n + 1) % size, last: n, count: 0, sequence: 0, room: 0 };
        Self {
            slots: (0..size).map(slot).collect(),
            in_order,
            next_free: 0,
            free: size,
            added: 0,
            published: 0,
            returned: 0,
            oldest: 0,
            batch: None,
        }
    }

    pub(super) fn size(&self) -> u16 {
        self.slots.len() as u16
    }

    pub(super) fn free(&self) -> u16 {
        self.free
    }

    /// Number of these buffers, if there are as many free descriptors, and any buffers.
    #[inline]
    pub(super) fn fit<T>(&self, buffers: &[T]) -> Option<u16> {
        let count = buffers.len();
        (count != 0 && count <= usize::from(self.free)).then_some(count as u16)
    }

    /// The next chain's first slot.
    #[inline]
    pub(super) fn first(&self) -> u16 {
        self.next_free
    }

    /// The slot after `slot`, in a chain that is being added.
    #[inline]
    pub(super) fn after(&self, slot: u16) -> u16 {
        self.slots[usize::from(slot)].next
    }

    /// The chain of the slots from [`Chains::first`] to `last` is in flight.
    #[inline]
    pub(super) fn add(&mut self, last: u16, count: u16, room: u32) -> u16 {
        let token = self.next_free;
        self.next_free = self.after(last);
        self.free -= count;
        let slot = &mut self.slots[usize::from(token)];
        (slot.last, slot.count, slot.sequence, slot.room) = (last, count, self.added, room);
        self.added = self.added.wrapping_add(1);
        token
    }

    /// Chains that the device has.
    #[inline]
    pub(super) fn in_flight(&self) -> u16 {
        self.published.wrapping_sub(self.returned)
    }

    /// A chain returned as part of a batch, without an entry of its own.
    #[inline]
    pub(super) fn implied(&mut self) -> Option<Returned> {
        let batch = self.batch?;
        let token = self.oldest;
        let used = if token == batch.token {
            self.batch = None;
            batch
        } else {
            Used { token, written: self.slots[usize::from(token)].room }
        };
        Some(self.remove(used))
    }

    /// True when [`Chains::implied`] has something.
    pub(super) fn is_implied(&self) -> bool {
        self.batch.is_some()
    }

    /// The device returned `token`, and says that at most `most` chains are new. Which chain that
    /// makes the next one.
    #[inline]
    pub(super) fn give_back(
        &mut self,
        token: u32,
        written: u32,
        most: u16,
    ) -> Result<Returned, DriverError> {
        let Some(slot) = self.slots.get(token as usize) else {
            return Err(DriverError::Token(token));
        };
        let age = self.added.wrapping_sub(slot.sequence);
        if slot.count == 0 || age <= self.added.wrapping_sub(self.published) {
            return Err(DriverError::Token(token));
        }
        let (token, room) = (token as u16, slot.room);
        if written > room {
            return Err(DriverError::Length { token, written, room });
        }
        let used = Used { token, written };
        if self.in_order && token != self.oldest {
            if slot.sequence.wrapping_sub(self.returned) >= most {
                return Err(DriverError::Order(token));
            }
            self.batch = Some(used);
            let token = self.oldest;
            return Ok(self.remove(Used { token, written: self.slots[usize::from(token)].room }));
        }
        Ok(self.remove(used))
    }

    #[inline]
    fn remove(&mut self, used: Used) -> Returned {
        let slot = &mut self.slots[usize::from(used.token)];
        let (last, count) = (slot.last, std::mem::take(&mut slot.count));
        let link = &mut self.slots[usize::from(last)].next;
        if self.in_order {
            self.oldest = *link;
        } else {
            *link = std::mem::replace(&mut self.next_free, used.token);
        }
        self.free += count;
        self.returned = self.returned.wrapping_add(1);
        (used, count)
    }
}
