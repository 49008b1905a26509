//! The split ring, the driver's end (VIRTIO 1.4 §2.7.13 for giving, §2.7.14 for taking back).

use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::{VRING_AVAIL_F_NO_INTERRUPT, VRING_USED_F_NO_NOTIFY};

use super::chains::Chains;
use super::layout::fresh_parts;
use super::{Buffer, DriverError, Used, upper, write_descriptor};
use crate::memory::{Table, Translator, Window};
use crate::ring::needs_event;
use crate::split::{ENTRIES, FLAGS, INDEX, USED_SIZE};
use crate::walk::{DESC_SIZE, INDIRECT, NEXT};
use crate::{Features, QueueError, QueueParams};

/// Entries of the available ring are counted by [`Chains::added`], those of the used ring by
/// [`Chains::returned`]: each is one chain.
#[derive(Debug)]
pub(super) struct SplitDriver {
    pub(super) chains: Chains,
    desc: Table,
    avail: Window<2>,
    used: Window<4>,
    event_idx: bool,
    /// The published index when the device was last considered for a kick.
    asked: u16,
    /// The device's index as last read.
    seen_used: u16,
}

impl SplitDriver {
    pub(super) fn new(
        params: &QueueParams,
        features: Features,
        memory: &mut Translator,
    ) -> Result<Self, QueueError> {
        let size = params.size;
        if !size.is_power_of_two() {
            return Err(QueueError::Size(size));
        }
        let (desc, avail, used) = fresh_parts(params, features, memory)?;
        Ok(Self {
            chains: Chains::new(size, features.has(Features::IN_ORDER)),
            desc,
            avail,
            used,
            event_idx: features.has(Features::EVENT_IDX),
            asked: 0,
            seen_used: 0,
        })
    }

    pub(super) fn next_avail(&self) -> u16 {
        self.chains.added
    }

    #[inline]
    pub(super) fn add(&mut self, buffers: &[Buffer]) -> Option<u16> {
        let count = self.chains.fit(buffers)?;
        let (mut index, mut last, mut room) = (self.chains.first(), 0, 0u32);
        let mut left = count;
        for buffer in buffers {
            left -= 1;
            let next = self.chains.after(index);
            let link = if left == 0 { [buffer.flags(), 0] } else { [buffer.flags() | NEXT, next] };
            write_descriptor(&self.desc, index.into(), buffer.address, upper(buffer.len, link));
            room = room.saturating_add(buffer.room());
            (last, index) = (index, next);
        }
        Some(self.offer(last, count, room))
    }

    #[inline]
    pub(super) fn add_indirect(
        &mut self,
        buffers: &[Buffer],
        at: u64,
        table: &Table,
    ) -> Option<u16> {
        let (mut left, mut room) = (buffers.len(), 0u32);
        for (n, buffer) in buffers.iter().enumerate() {
            left -= 1;
            let flags = buffer.flags();
            let link = if left == 0 { [flags, 0] } else { [flags | NEXT, n as u16 + 1] };
            write_descriptor(table, n, buffer.address, upper(buffer.len, link));
            room = room.saturating_add(buffer.room());
        }
        let (head, len) = (self.chains.first(), DESC_SIZE * buffers.len());
        let upper = upper(len as u32, [INDIRECT, 0]);
        write_descriptor(&self.desc, head.into(), at, upper);
        Some(self.offer(head, 1, room))
    }

    /// Notes the chain that ends at descriptor `last`, and writes its entry in the available ring.
    #[inline]
    fn offer(&mut self, last: u16, count: u16, room: u32) -> u16 {
        let entry = self.chains.added & (self.chains.size() - 1);
        let head = self.chains.add(last, count, room);
        self.avail.store16(ENTRIES + 2 * usize::from(entry), head, Ordering::Relaxed);
        head
    }

    #[inline]
    pub(super) fn publish(&mut self) {
        self.chains.published = self.chains.added;
        // Release: the device that reads the index reads the entries after it (§2.7.13.3).
        self.avail.store16(INDEX, self.chains.published, Ordering::Release);
    }

    #[inline]
    pub(super) fn wants_kick(&mut self) -> bool {
        let new = self.chains.published;
        let old = std::mem::replace(&mut self.asked, new);
        // The device stores its event index (or flag), then looks at our index; we do it the other way
        // round. Without the full fence both could read old values and wait for each other.
        fence(Ordering::SeqCst);
        if !self.event_idx {
            let flags = self.used.load16(FLAGS, Ordering::Relaxed);
            return new != old && flags & VRING_USED_F_NO_NOTIFY as u16 == 0;
        }
        let at = ENTRIES + USED_SIZE * usize::from(self.chains.size());
        needs_event(self.used.load16(at, Ordering::Relaxed), new, old)
    }

    #[inline]
    pub(super) fn pop_used(&mut self) -> Result<Option<Used>, DriverError> {
        if let Some((used, _)) = self.chains.implied() {
            return Ok(Some(used));
        }
        let next = self.chains.returned;
        if next == self.seen_used && !self.look()? {
            return Ok(None);
        }
        let at = ENTRIES + USED_SIZE * usize::from(next & (self.chains.size() - 1));
        let (token, written) = (self.used.load32(at), self.used.load32(at + 4));
        let news = self.seen_used.wrapping_sub(next);
        let (used, _) = self.chains.give_back(token, written, news)?;
        Ok(Some(used))
    }

    /// Reads the device's index; true when there is something to take.
    #[inline]
    fn look(&mut self) -> Result<bool, DriverError> {
        // Acquire: the entries are read after the index.
        let index = self.used.load16(INDEX, Ordering::Acquire);
        let (next, in_flight) = (self.chains.returned, self.chains.in_flight());
        if index.wrapping_sub(next) > in_flight {
            return Err(DriverError::UsedIndex { index, next, in_flight });
        }
        self.seen_used = index;
        Ok(index != next)
    }

    #[inline]
    pub(super) fn enable_interrupts(&mut self) -> Result<bool, DriverError> {
        if self.event_idx {
            self.set_used_event(self.chains.returned);
        } else {
            self.avail.store16(FLAGS, 0, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        // The index also counts the chains of a batch that have no entry of their own.
        self.look()
    }

    #[inline]
    pub(super) fn disable_interrupts(&mut self) {
        if self.event_idx {
            // The index just passed is the last that will be reached again.
            self.set_used_event(self.chains.returned.wrapping_sub(1));
        } else {
            self.avail.store16(FLAGS, VRING_AVAIL_F_NO_INTERRUPT as u16, Ordering::Relaxed);
        }
    }

    #[inline]
    fn set_used_event(&self, index: u16) {
        let at = ENTRIES + 2 * usize::from(self.chains.size());
        self.avail.store16(at, index, Ordering::Relaxed);
    }
}
