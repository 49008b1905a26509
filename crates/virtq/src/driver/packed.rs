//! The packed ring, the driver's end (VIRTIO 1.4 §2.8).
//!
//! Both sides go round the same descriptor ring, each with a wrap counter that turns over at every
//! lap. The flags of a descriptor say whose it is: AVAIL and USED differ when the driver has given it,
//! and agree when the device has used it; the wrap counter tells this lap's from the last one's. Length,
//! id and flags are one aligned word, read and written as a whole.

use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::{
    VRING_PACKED_EVENT_FLAG_DESC, VRING_PACKED_EVENT_FLAG_DISABLE, VRING_PACKED_EVENT_FLAG_ENABLE,
};

use super::chains::Chains;
use super::layout::fresh_parts;
use super::{Buffer, DriverError, Used, upper, write_descriptor};
use crate::memory::{Table, Translator, Window};
use crate::packed::{UPPER, at};
use crate::place::{AVAIL, Place, USED};
use crate::walk::{DESC_SIZE, INDIRECT, NEXT, WRITE};
use crate::{Features, QueueError, QueueParams, QueueState};

/// Where both sides begin (§2.8.1).
const FIRST: Place = Place(QueueState::fresh(Features::PACKED).next_avail);

#[derive(Debug)]
pub(super) struct PackedDriver {
    pub(super) chains: Chains,
    ring: Table,
    driver: Window<4>,
    device: Window<4>,
    event_idx: bool,
    next_avail: Place,
    next_used: Place,
    /// The first descriptor not yet published: where, and the upper half that will show it, and with it
    /// all others, to the device.
    held: Option<(Place, u64)>,
    /// Descriptors not yet published,
    added: u16,
    /// the place after the published ones,
    published: Place,
    /// and how many were published since the device was last considered for a kick, a lap at most.
    news: u16,
}

impl PackedDriver {
    pub(super) fn new(
        params: &QueueParams,
        features: Features,
        memory: &mut Translator,
    ) -> Result<Self, QueueError> {
        let size = params.size;
        if size == 0 || size > 1 << 15 {
            return Err(QueueError::Size(size));
        }
        let (ring, driver, device) = fresh_parts(params, features, memory)?;
        Ok(Self {
            chains: Chains::new(size, features.has(Features::IN_ORDER)),
            ring,
            driver,
            device,
            event_idx: features.has(Features::EVENT_IDX),
            next_avail: FIRST,
            next_used: FIRST,
            held: None,
            added: 0,
            published: FIRST,
            news: 0,
        })
    }

    pub(super) fn next_avail(&self) -> u16 {
        self.next_avail.0
    }

    #[inline]
    pub(super) fn add(&mut self, buffers: &[Buffer]) -> Option<u16> {
        let count = self.chains.fit(buffers)?;
        let (mut left, mut room) = (count, 0u32);
        for buffer in buffers {
            left -= 1;
            let next = if left == 0 { 0 } else { NEXT };
            self.put(buffer.address, buffer.len, buffer.flags() | next);
            room = room.saturating_add(buffer.room());
        }
        Some(self.chains.add(self.chains.first(), count, room))
    }

    #[inline]
    pub(super) fn add_indirect(
        &mut self,
        buffers: &[Buffer],
        at: u64,
        table: &Table,
    ) -> Option<u16> {
        let mut room = 0u32;
        for (n, buffer) in buffers.iter().enumerate() {
            // In a table, order says what follows, and WRITE is the only flag (§2.8.7).
            let upper = upper(buffer.len, [0, buffer.flags()]);
            write_descriptor(table, n, buffer.address, upper);
            room = room.saturating_add(buffer.room());
        }
        self.put(at, (DESC_SIZE * buffers.len()) as u32, INDIRECT);
        Some(self.chains.add(self.chains.first(), 1, room))
    }

    /// Writes the next descriptor, of the chain that is being added. The first since the last
    /// [`PackedDriver::publish`] keeps its old flags: the device looks at no other before that one.
    #[inline]
    fn put(&mut self, address: u64, len: u32, flags: u16) {
        let here = self.next_avail;
        let upper = upper(len, [self.chains.first(), flags | here.available()]);
        if self.held.is_some() {
            write_descriptor(&self.ring, here.index().into(), address, upper);
        } else {
            self.ring.store64(at(here), address);
            self.held = Some((here, upper));
        }
        self.added += 1;
        self.next_avail = here.forward(1, self.chains.size());
    }

    #[inline]
    pub(super) fn publish(&mut self) {
        let Some((first, upper)) = self.held.take() else { return };
        self.chains.published = self.chains.added;
        self.published = self.next_avail;
        self.news =
            self.news.saturating_add(std::mem::take(&mut self.added)).min(self.chains.size());
        // Release: the device that sees these flags sees all the rest (§2.8.21.3.1).
        self.ring.store64_release(at(first) + UPPER, upper);
    }

    #[inline]
    pub(super) fn wants_kick(&mut self) -> bool {
        let news = std::mem::take(&mut self.news);
        // The device stores its event suppression structure, then looks at the ring; we do it the
        // other way round. Without the full fence both could read old values and wait for each other.
        fence(Ordering::SeqCst);
        let wish = self.device.load32(0);
        let flags = wish >> 16 & 3;
        if flags != VRING_PACKED_EVENT_FLAG_DESC || !self.event_idx {
            return news != 0 && flags != VRING_PACKED_EVENT_FLAG_DISABLE;
        }
        self.published.has_passed(Place(wish as u16), news, self.chains.size())
    }

    #[inline]
    pub(super) fn pop_used(&mut self) -> Result<Option<Used>, DriverError> {
        let (used, count) = match self.chains.implied() {
            Some(returned) => returned,
            None => {
                let Some(upper) = self.look() else { return Ok(None) };
                let (id, flags) = ((upper >> 32) as u16, (upper >> 48) as u16);
                // Without WRITE nothing was written, and the length says nothing (§2.8.4).
                let written = if flags & WRITE == 0 { 0 } else { upper as u32 };
                let most = self.chains.in_flight();
                self.chains.give_back(id.into(), written, most)?
            }
        };
        self.next_used = self.next_used.forward(count, self.chains.size());
        Ok(Some(used))
    }

    /// The upper half of the descriptor that is next in turn, when the device has used it.
    #[inline]
    fn look(&self) -> Option<u64> {
        // Acquire: with the first descriptor of a batch, all the others are there.
        let upper = self.ring.load64_acquire(at(self.next_used) + UPPER);
        let flags = (upper >> 48) as u16;
        (flags & (AVAIL | USED) == self.next_used.used()).then_some(upper)
    }

    #[inline]
    pub(super) fn enable_interrupts(&mut self) -> Result<bool, DriverError> {
        self.ask(if self.event_idx {
            VRING_PACKED_EVENT_FLAG_DESC << 16 | u32::from(self.next_used.0)
        } else {
            VRING_PACKED_EVENT_FLAG_ENABLE << 16
        });
        fence(Ordering::SeqCst);
        Ok(self.chains.is_implied() || self.look().is_some())
    }

    #[inline]
    pub(super) fn disable_interrupts(&mut self) {
        self.ask(VRING_PACKED_EVENT_FLAG_DISABLE << 16);
    }

    /// Writes the driver's event suppression structure, as one word (VIRTIO 1.4 §2.8.14).
    #[inline]
    fn ask(&self, wish: u32) {
        self.driver.store32(0, wish);
    }
}
