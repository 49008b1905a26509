//! The driver's end, with as little to do as possible while it is measured.
//!
//! Chain k consists of the descriptors k · length and following. On a split ring nothing ever changes but
//! the available index: the table is written once, and the available ring names the chains over and over. On
//! a packed ring the device overwrites descriptors, so the driver writes them all again before each turn; only
//! the flags of each batch's first descriptor are held back, as a driver does which adds a batch, and
//! stored to publish it.

use std::sync::atomic::Ordering;

use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};

use crate::case::{BUFFER, Case, SIZE};
use crate::memory::Ring;

/// The driver's end of a ring.
pub(crate) trait Driver {
    /// Prepares a turn; not measured.
    fn refill(&mut self);
    /// Makes the next batch available and asks for an interrupt when its first chain is used.
    fn publish(&mut self);
}

/// The driver of the lane called `name`.
pub(crate) fn for_lane<'m>(name: &str, case: &Case, ring: Ring<'m>) -> Box<dyn Driver + 'm> {
    match name {
        "packed" | "idle packed" => Box::new(Packed::new(*case, ring)),
        _ => Box::new(Split::new(*case, ring)),
    }
}

fn flags(case: &Case, index: u16) -> u16 {
    let write = if case.writable(index) { VRING_DESC_F_WRITE } else { 0 };
    let next = if case.has_next(index) { VRING_DESC_F_NEXT } else { 0 };
    (write | next) as u16
}

struct Split<'m> {
    case: Case,
    ring: Ring<'m>,
    index: u16,
}

impl<'m> Split<'m> {
    fn new(case: Case, ring: Ring<'m>) -> Self {
        for (i, [address, rest]) in (0..).zip(ring.desc) {
            address.store(case.buffer(i).to_le(), Ordering::Relaxed);
            let flags_and_next = u64::from(flags(&case, i)) | u64::from((i + 1) % SIZE) << 16;
            rest.store((u64::from(BUFFER) | flags_and_next << 32).to_le(), Ordering::Relaxed);
        }
        for (i, head) in (0..SIZE).zip(&ring.avail[2..]) {
            head.store((i % case.chains() * case.length).to_le(), Ordering::Relaxed);
        }
        Self { case, ring, index: 0 }
    }
}

impl Driver for Split<'_> {
    fn refill(&mut self) {}

    fn publish(&mut self) {
        let avail = self.ring.avail;
        if self.case.event_idx {
            avail[2 + usize::from(SIZE)].store(self.index.to_le(), Ordering::Relaxed);
        }
        self.index = self.index.wrapping_add(self.case.batch);
        avail[1].store(self.index.to_le(), Ordering::Release);
    }
}

struct Packed<'m> {
    case: Case,
    ring: Ring<'m>,
    wrap: bool,
    /// Descriptor that the next batch begins at.
    next: u16,
}

impl<'m> Packed<'m> {
    /// `RING_EVENT_FLAGS_DESC`: an interrupt at a certain descriptor (VIRTIO 1.4 §2.8.10).
    const EVENTS_AT_DESCRIPTOR: u16 = 2;

    fn new(case: Case, ring: Ring<'m>) -> Self {
        let events = if case.event_idx { Self::EVENTS_AT_DESCRIPTOR } else { 0 };
        ring.avail[1].store(events.to_le(), Ordering::Relaxed);
        Self { case, ring, wrap: false, next: 0 }
    }

    /// Length, id and flags of a descriptor that is available in this turn (VIRTIO 1.4 §2.8.1).
    fn rest(&self, index: u16) -> u64 {
        let (avail, used) = (u16::from(self.wrap) << 7, u16::from(!self.wrap) << 15);
        let flags = flags(&self.case, index) | avail | used;
        let id = index / self.case.length;
        (u64::from(BUFFER) | u64::from(id) << 32 | u64::from(flags) << 48).to_le()
    }
}

impl Driver for Packed<'_> {
    fn refill(&mut self) {
        self.wrap = !self.wrap;
        self.next = 0;
        for (i, [address, rest]) in (0..).zip(self.ring.desc) {
            address.store(self.case.buffer(i).to_le(), Ordering::Relaxed);
            if i % (self.case.batch * self.case.length) != 0 {
                rest.store(self.rest(i), Ordering::Relaxed);
            }
        }
    }

    fn publish(&mut self) {
        if self.case.event_idx {
            let here = self.next | u16::from(self.wrap) << 15;
            self.ring.avail[0].store(here.to_le(), Ordering::Relaxed);
        }
        let [_, rest] = &self.ring.desc[usize::from(self.next)];
        rest.store(self.rest(self.next), Ordering::Release);
        self.next += self.case.batch * self.case.length;
    }
}
