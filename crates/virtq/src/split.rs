//! The split ring (VIRTIO 1.4 §2.7), the device's end.
//!
//! ```text
//!   descriptor table          available ring (driver writes)      used ring (device writes)
//!   ┌──────┬─────┬───┬────┐   ┌───────┬─────┬──────────┬───────┐  ┌───────┬─────┬───────────┬───────┐
//!   │ addr │ len │ f │next│   │ flags │ idx │ head × n │ used  │  │ flags │ idx │ (id,len)×n│ avail │
//!   ├──────┼─────┼───┼────┤   │       │     │          │ event │  │       │     │           │ event │
//!   │  …   │     │   │    │   └───────┴──┬──┴──────────┴───────┘  └───────┴──┬──┴───────────┴───────┘
//!   └──────┴─────┴───┴────┘              └── next_avail follows              └── next_used, published
//! ```

use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC, VRING_AVAIL_F_NO_INTERRUPT,
    VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, VRING_USED_F_NO_NOTIFY,
};

use crate::chain::Body;
use crate::memory::{Translator, Window};
use crate::{Features, QueueError, QueueParams, QueueState};

const DESC_SIZE: usize = 16;
const USED_SIZE: usize = 8;
/// Both rings begin with flags (2 bytes), index (2 bytes); entries follow.
const FLAGS: usize = 0;
const INDEX: usize = 2;
const ENTRIES: usize = 4;

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;

#[derive(Debug)]
pub(crate) struct SplitRing {
    size: u16,
    desc: Window,
    avail: Window,
    used: Window,
    event_idx: bool,
    indirect: bool,
    next_avail: u16,
    /// The driver's index as last read: chains up to here are taken without looking again.
    seen_avail: u16,
    next_used: u16,
    /// `next_used` when the driver was last considered for an interrupt.
    signalled: u16,
}

struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
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
        let n = usize::from(size);
        let mut part = |part, address, len, align: usize| {
            let window = memory.window(address, len).ok_or(QueueError::Ring { part, address })?;
            // The standard's alignment is the guest's; the host's need only suit the accesses.
            let aligned = address % align as u64 == 0 && window.is_aligned(align.min(8));
            aligned.then_some(window).ok_or(QueueError::Alignment { part, address, align })
        };
        let ring = Self {
            size,
            desc: part("descriptor table", params.desc, DESC_SIZE * n, 16)?,
            avail: part("available ring", params.driver, ENTRIES + 2 * n + 2, 2)?,
            used: part("used ring", params.device, ENTRIES + USED_SIZE * n + 2, 4)?,
            event_idx: features.has_bit(VIRTIO_RING_F_EVENT_IDX),
            indirect: features.has_bit(VIRTIO_RING_F_INDIRECT_DESC),
            next_avail: state.next_avail,
            seen_avail: state.next_avail,
            next_used: state.next_used,
            signalled: state.next_used,
        };
        Ok(ring)
    }

    pub(crate) fn size(&self) -> u16 {
        self.size
    }

    pub(crate) fn state(&self) -> QueueState {
        QueueState { next_avail: self.next_avail, next_used: self.next_used }
    }

    /// Takes the next chain: its head, with its buffers in `body`. `None` when there is no more.
    #[inline]
    pub(crate) fn pop(
        &mut self,
        memory: &mut Translator,
        body: &mut Body,
    ) -> Result<Option<u16>, QueueError> {
        if self.next_avail == self.seen_avail && !self.look()? {
            return Ok(None);
        }
        let slot = ENTRIES + 2 * usize::from(self.next_avail & (self.size - 1));
        let head = self.avail.load16(slot, Ordering::Relaxed);
        self.walk(head, memory, body)?;
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(Some(head))
    }

    /// Gives the chain taken last back to the ring.
    pub(crate) fn unpop(&mut self) {
        self.next_avail = self.next_avail.wrapping_sub(1);
    }

    /// Reads the driver's index; true when there is something to take.
    #[inline]
    fn look(&mut self) -> Result<bool, QueueError> {
        // Acquire: what the driver wrote before the index is read after it (VIRTIO 1.4 §2.7.13.3).
        let index = self.avail.load16(INDEX, Ordering::Acquire);
        if index.wrapping_sub(self.next_avail) > self.size {
            let (next, size) = (self.next_avail, self.size);
            return Err(QueueError::AvailableIndex { index, next, size });
        }
        self.seen_avail = index;
        Ok(index != self.next_avail)
    }

    /// Follows a chain from descriptor `head`, each descriptor read once.
    fn walk(&self, head: u16, memory: &mut Translator, body: &mut Body) -> Result<(), QueueError> {
        let mut table = self.desc;
        let mut entries = self.size;
        let mut index = head;
        let mut total = 0u32;
        let mut in_table = false;
        let mut left = self.size;
        loop {
            if index >= entries {
                return Err(QueueError::DescriptorIndex { index, size: entries });
            }
            let desc = descriptor(&table, index);
            if desc.flags & INDIRECT != 0 {
                (table, entries) = self.indirect(&desc, in_table, memory)?;
                (in_table, index) = (true, 0);
                continue;
            }
            left = left.checked_sub(1).ok_or(QueueError::ChainLength(self.size))?;
            total = total.checked_add(desc.len).ok_or(QueueError::TotalLength)?;
            add_buffer(&desc, memory, body)?;
            if desc.flags & NEXT == 0 {
                return Ok(());
            }
            index = desc.next;
        }
    }

    /// The table that an indirect descriptor names, and its number of descriptors.
    fn indirect(
        &self,
        desc: &Descriptor,
        nested: bool,
        memory: &mut Translator,
    ) -> Result<(Window, u16), QueueError> {
        let entries = desc.len as usize / DESC_SIZE;
        let wrong = match () {
            () if !self.indirect => "the feature was not negotiated",
            () if nested => "a table inside a table",
            () if desc.flags & NEXT != 0 => "NEXT is set as well",
            () if desc.len == 0 || !desc.len.is_multiple_of(DESC_SIZE as u32) => {
                "the table's length is not a multiple of 16"
            }
            () if entries > usize::from(u16::MAX) => "the table has more than 65535 entries",
            () => {
                let window = memory.window(desc.address, desc.len as usize);
                let window = window.filter(|w| w.is_aligned(align_of::<u64>()));
                let window =
                    window.ok_or(QueueError::Buffer { address: desc.address, len: desc.len })?;
                return Ok((window, entries as u16));
            }
        };
        Err(QueueError::Indirect(wrong))
    }

    /// Writes a used entry, which the driver sees at the next [`SplitRing::publish`].
    #[inline]
    pub(crate) fn push(&mut self, head: u16, written: u32) {
        let slot = ENTRIES + USED_SIZE * usize::from(self.next_used & (self.size - 1));
        self.used.store32(slot, u32::from(head));
        self.used.store32(slot + 4, written);
        self.next_used = self.next_used.wrapping_add(1);
    }

    /// Shows the driver all used entries so far.
    #[inline]
    pub(crate) fn publish(&mut self) {
        self.used.store16(INDEX, self.next_used, Ordering::Release);
    }

    /// After [`SplitRing::publish`]: does the driver want an interrupt for what is new?
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
        let event = self.avail.load16(ENTRIES + 2 * usize::from(self.size), Ordering::Relaxed);
        needs_event(event, self.next_used, old)
    }

    /// Asks the driver for a kick with the next chain. True when there is one already: look again.
    #[inline]
    pub(crate) fn enable_kicks(&mut self) -> Result<bool, QueueError> {
        if self.event_idx {
            let slot = ENTRIES + USED_SIZE * usize::from(self.size);
            self.used.store16(slot, self.next_avail, Ordering::Relaxed);
        } else {
            self.used.store16(FLAGS, 0, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        self.look()
    }

    /// Tells the driver that kicks are not needed now. Only a hint: kicks may still come.
    #[inline]
    pub(crate) fn disable_kicks(&mut self) {
        // With event index, an index that the driver has passed already says the same.
        if !self.event_idx {
            self.used.store16(FLAGS, VRING_USED_F_NO_NOTIFY as u16, Ordering::Relaxed);
        }
    }
}

/// True when `event` is among the entries from `old` up to but not including `new`
/// (VIRTIO 1.4 §2.7.7.2, `vring_need_event`).
fn needs_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[inline]
fn descriptor(table: &Window, index: u16) -> Descriptor {
    let at = DESC_SIZE * usize::from(index);
    let rest = table.load64(at + 8);
    Descriptor {
        address: table.load64(at),
        len: rest as u32,
        flags: (rest >> 32) as u16,
        next: (rest >> 48) as u16,
    }
}

/// Adds a descriptor's buffer to the chain, in as many pieces as the host needs.
#[inline]
fn add_buffer(
    desc: &Descriptor,
    memory: &mut Translator,
    body: &mut Body,
) -> Result<(), QueueError> {
    let out = if desc.flags & WRITE != 0 {
        &mut body.writable
    } else if body.writable.is_empty() {
        &mut body.readable
    } else {
        return Err(QueueError::Order);
    };
    let (mut address, mut left) = (desc.address, desc.len as usize);
    while left > 0 {
        let hole = QueueError::Buffer { address: desc.address, len: desc.len };
        let (host, here) = memory.piece(address, left).ok_or(hole)?;
        out.push(host, here);
        left -= here;
        if left > 0 {
            address = address.checked_add(here as u64).ok_or(hole)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::needs_event;

    #[test]
    fn an_event_counts_when_it_lies_between_old_and_new() {
        assert!(needs_event(4, 5, 4));
        assert!(!needs_event(5, 5, 4));
        assert!(!needs_event(3, 5, 4));
        assert!(needs_event(0xffff, 1, 0xfffe), "across the wrap");
        assert!(!needs_event(9, 4, 4), "nothing new");
    }
}
