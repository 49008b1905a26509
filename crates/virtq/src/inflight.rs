//! What is in flight, written down where it outlives this process (QEMU, docs/interop/vhost-user.rst, «Inflight
//! I/O tracking», split virtqueue).
//!
//! ```text
//!    0  features, 0 (8 bytes)          16 + 16 n  in flight (1), padding (5), next of the batch (2),
//!    8  version, 1 (2)                            counter (8): of head n
//!   10  heads (2)
//!   12  last of the batch (2)
//!   14  used index (2)
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vm_memory::GuestMemoryMmap;

use crate::QueueError;
use crate::memory::{Translator, Window};

const VERSION: usize = 8;
const HEADS: usize = 10;
const LAST: usize = 12;
const USED: usize = 14;
const ENTRIES: usize = 16;
const ENTRY: usize = 16;
/// In an entry.
const NEXT: usize = 6;
const COUNTER: usize = 8;

/// The only version that there is.
const VERSION_1: u16 = 1;
/// Queues' parts of a region do not share cache lines.
const CACHE_LINE: u64 = 64;

/// A place in shared memory where a split queue notes which chains it has taken and not yet used. When the
/// device's process is killed, the queue of its successor takes those again, in their order, before any other.
///
/// Whoever shares the memory can write anything there: that costs a driver its answers, and this process nothing.
#[derive(Debug)]
pub struct Inflight {
    region: Window<8>,
    size: u16,
    /// Of the chain that was taken last.
    counter: u64,
    /// Heads that were used, and not yet shown to the driver.
    batch: Vec<u16>,
    /// Heads to be taken again.
    resumed: VecDeque<u16>,
    /// Keeps the region mapped.
    _memory: Translator,
}

impl Inflight {
    /// Bytes of the notes of a queue with `size` entries.
    pub const fn bytes(size: u16) -> u64 {
        ((ENTRIES + ENTRY * size as usize) as u64).next_multiple_of(CACHE_LINE)
    }

    /// The notes at `address` of `memory`, which need not be the guest's: of a queue with `size` entries, all
    /// zero if it is new.
    ///
    /// # Errors
    /// When they do not lie in `memory`.
    pub fn new(memory: Arc<GuestMemoryMmap>, address: u64, size: u16) -> Result<Self, QueueError> {
        let mut memory = Translator::new(memory);
        let region = memory.part(("in-flight notes", Self::bytes(size) as usize, 8), address)?;
        let (batch, resumed) = (Vec::with_capacity(size.into()), VecDeque::new());
        Ok(Self { region, size, counter: 0, batch, resumed, _memory: memory })
    }

    /// Finds out what was in flight of a queue whose used index is `used`, as its driver sees it.
    pub(crate) fn resume(&mut self, used: u16) {
        if self.load(VERSION) != VERSION_1 || self.load(HEADS) != self.size {
            (0..self.size).for_each(|head| self.mark(head, false));
            self.store(HEADS, self.size);
            self.store(USED, used);
            self.store(VERSION, VERSION_1);
        }
        // The last batch was shown to the driver, and not yet crossed off.
        let mut head = self.load(LAST);
        for _ in 0..used.wrapping_sub(self.load(USED)).min(self.size) {
            if head >= self.size {
                break;
            }
            self.mark(head, false);
            head = self.load(entry(head) + NEXT);
        }
        self.store(USED, used);
        let flying = (0..self.size).filter(|head| self.load(entry(*head)) & 0xff != 0);
        let mut flying: Vec<_> = flying.map(|head| (self.counter_of(head), head)).collect();
        flying.sort_unstable();
        self.counter = flying.last().map_or(0, |(counter, _)| *counter);
        self.resumed = flying.into_iter().map(|(_, head)| head).collect();
    }

    /// The head that is to be taken again, before any other.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u16> {
        self.resumed.front().copied()
    }

    /// `head` was taken. True if it was one to be taken again.
    #[inline]
    pub(crate) fn take(&mut self, head: u16) -> bool {
        if self.resumed.front() == Some(&head) {
            self.resumed.pop_front();
            return true;
        }
        self.counter = self.counter.wrapping_add(1);
        self.region.store64_release(entry(head) + COUNTER, self.counter);
        self.mark(head, true);
        false
    }

    /// `head`, the one taken last, was given back, and will be the next one again: noted as it is.
    #[inline]
    pub(crate) fn give_back(&mut self, head: u16) {
        self.resumed.push_front(head);
    }

    /// `head` was used.
    #[inline]
    pub(crate) fn push(&mut self, head: u16) {
        let last = self.load(LAST);
        self.store(entry(head) + NEXT, last);
        self.store(LAST, head);
        self.batch.push(head);
    }

    /// The driver sees all that was used: its index is `used`.
    #[inline]
    pub(crate) fn publish(&mut self, used: u16) {
        while let Some(head) = self.batch.pop() {
            self.mark(head, false);
        }
        self.store(USED, used);
    }

    fn mark(&self, head: u16, flying: bool) {
        self.store(entry(head), flying.into());
    }

    fn counter_of(&self, head: u16) -> u64 {
        self.region.load64(entry(head) + COUNTER)
    }

    fn load(&self, offset: usize) -> u16 {
        self.region.load16(offset, Ordering::Acquire)
    }

    /// In the order of the program, as seen by whoever comes after it.
    fn store(&self, offset: usize, value: u16) {
        self.region.store16(offset, value, Ordering::Release);
    }
}

/// Where the entry of `head` begins, which is less than the queue's size.
#[inline]
fn entry(head: u16) -> usize {
    ENTRIES + ENTRY * usize::from(head)
}
