//! The packed ring, the driver's end (VIRTIO 1.4 §2.8).
//!
//! Both sides go round the same descriptor ring, each with a wrap counter that turns over at every
//! lap. The flags of a descriptor say whose it is: AVAIL and USED differ when the driver has given it,
//! and agree when the device has used it; the wrap counter tells this lap's from the last one's. Length,
//! id and flags are one aligned word, read and written as a whole.

use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_config::VIRTIO_F_IN_ORDER;
use virtio_bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VRING_DESC_F_INDIRECT, VRING_PACKED_DESC_F_AVAIL,
    VRING_PACKED_DESC_F_USED, VRING_PACKED_EVENT_F_WRAP_CTR, VRING_PACKED_EVENT_FLAG_DESC,
    VRING_PACKED_EVENT_FLAG_DISABLE, VRING_PACKED_EVENT_FLAG_ENABLE,
};

use super::chains::Chains;
use super::layout::fresh_parts;
use super::{
    Buffer, DESC_SIZE, DriverError, NEXT, UPPER, Used, WRITE, needs_event, upper, write_descriptor,
};
use crate::memory::{Translator, Window};
use crate::{Features, QueueError, QueueParams};

const AVAIL: u16 = 1 << VRING_PACKED_DESC_F_AVAIL;
const USED: u16 = 1 << VRING_PACKED_DESC_F_USED;
const WRAP: u16 = 1 << VRING_PACKED_EVENT_F_WRAP_CTR;

/// A place in the ring, and in bit 15 the wrap counter, which begins at 1.
#[derive(Clone, Copy, Debug)]
struct Cursor(u16);

impl Cursor {
    const FIRST: Self = Self(WRAP);

    #[inline]
    fn position(self) -> u16 {
        self.0 & !WRAP
    }

    #[inline]
    fn wrap(self) -> bool {
        self.0 & WRAP != 0
    }

    /// Goes on by at most one lap.
    #[inline]
    fn advance(&mut self, by: u16, size: u16) {
        // Both are at most 2¹⁵, so that the sum of a place and a step fits.
        let next = self.position() + by;
        self.0 = match next.checked_sub(size) {
            None => next | self.0 & WRAP,
            Some(next) => next | !self.0 & WRAP,
        };
    }

    /// Where the descriptor lies in the ring.
    #[inline]
    fn at(self) -> usize {
        DESC_SIZE * usize::from(self.position())
    }

    /// The bits of a descriptor that is available here.
    #[inline]
    fn available(self) -> u16 {
        if self.wrap() { AVAIL } else { USED }
    }

    /// The bits of a descriptor that is used here.
    #[inline]
    fn used(self) -> u16 {
        if self.wrap() { AVAIL | USED } else { 0 }
    }
}

#[derive(Debug)]
pub(super) struct PackedDriver {
    pub(super) chains: Chains,
    ring: Window,
    driver: Window,
    device: Window,
    event_idx: bool,
    next_avail: Cursor,
    next_used: Cursor,
    /// The first descriptor not yet published: where, and the upper half that will show it, and with it
    /// all others, to the device.
    held: Option<(Cursor, u64)>,
    /// Descriptors not yet published,
    added: u16,
    /// the place after the published ones,
    published: Cursor,
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
        let [ring, driver, device] = fresh_parts(params, features, memory)?;
        Ok(Self {
            chains: Chains::new(size, features.has_bit(VIRTIO_F_IN_ORDER)),
            ring,
            driver,
            device,
            event_idx: features.has_bit(VIRTIO_RING_F_EVENT_IDX),
            next_avail: Cursor::FIRST,
            next_used: Cursor::FIRST,
            held: None,
            added: 0,
            published: Cursor::FIRST,
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
        table: &Window,
    ) -> Option<u16> {
        let mut room = 0u32;
        for (n, buffer) in buffers.iter().enumerate() {
            // In a table, order says what follows, and WRITE is the only flag (§2.8.7).
            let upper = upper(buffer.len, [0, buffer.flags()]);
            write_descriptor(table, n, buffer.address, upper);
            room = room.saturating_add(buffer.room());
        }
        self.put(at, (DESC_SIZE * buffers.len()) as u32, VRING_DESC_F_INDIRECT as u16);
        Some(self.chains.add(self.chains.first(), 1, room))
    }

    /// Writes the next descriptor, of the chain that is being added. The first since the last
    /// [`PackedDriver::publish`] keeps its old flags: the device looks at no other before that one.
    #[inline]
    fn put(&mut self, address: u64, len: u32, flags: u16) {
        let here = self.next_avail;
        let upper = upper(len, [self.chains.first(), flags | here.available()]);
        if self.held.is_some() {
            write_descriptor(&self.ring, here.position().into(), address, upper);
        } else {
            self.ring.store64(here.at(), address);
            self.held = Some((here, upper));
        }
        self.added += 1;
        self.next_avail.advance(1, self.chains.size());
    }

    #[inline]
    pub(super) fn publish(&mut self) {
        let Some((first, upper)) = self.held.take() else { return };
        self.chains.published = self.chains.added;
        self.published = self.next_avail;
        self.news =
            self.news.saturating_add(std::mem::take(&mut self.added)).min(self.chains.size());
        // Release: the device that sees these flags sees all the rest (§2.8.21.3.1).
        self.ring.store64_release(first.at() + UPPER, upper);
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
        let event = Cursor(wish as u16);
        let new = self.published;
        let mut place = event.position();
        if event.wrap() != new.wrap() {
            // Of the lap before, or of the one to come, which is out of reach either way round.
            place = place.wrapping_sub(self.chains.size());
        }
        needs_event(place, new.position(), new.position().wrapping_sub(news))
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
        self.next_used.advance(count, self.chains.size());
        Ok(Some(used))
    }

    /// The upper half of the descriptor that is next in turn, when the device has used it.
    #[inline]
    fn look(&self) -> Option<u64> {
        // Acquire: with the first descriptor of a batch, all the others are there.
        let upper = self.ring.load64_acquire(self.next_used.at() + UPPER);
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
