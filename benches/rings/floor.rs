//! The floor: a split ring walked by hand, for this benchmark alone.
//!
//! It makes all the checks that a device must make of a driver, resolves the ring's addresses once, reads each
//! descriptor once, and leaves out what a library has besides: chains that outlive the loop, a pool, a state to
//! save, errors with their details, indirect tables (the flag is met with a refusal).

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use virtio_bindings::virtio_ring::{
    VRING_AVAIL_F_NO_INTERRUPT, VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
    VRING_USED_F_NO_NOTIFY,
};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

use crate::case::{Case, SIZE};
use crate::devices::{Device, Sink};
use crate::memory::{Memory, Ring};

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;

#[derive(Clone, Copy)]
struct Region {
    first: u64,
    len: u64,
    host: usize,
}

/// A piece of a buffer in host memory.
#[derive(Clone, Copy, Default)]
struct Piece {
    host: usize,
    len: usize,
}

/// The driver broke a rule.
#[derive(Debug)]
struct Broken;

/// The device of the lane.
pub(crate) struct Floor<'m> {
    ring: Ring<'m>,
    size: u16,
    event_idx: bool,
    next_avail: u16,
    next_used: u16,
    buffers: Buffers,
    written: u32,
    sink: Sink,
}

/// A chain's buffers, resolved.
struct Buffers {
    regions: Vec<Region>,
    recent: Region,
    /// Room for a chain as long as the queue, each buffer of which lies in all regions.
    pieces: Box<[Piece]>,
    count: usize,
}

impl<'m> Floor<'m> {
    pub(crate) fn new(case: &Case, memory: &'m Memory) -> Self {
        let region = |region: &vm_memory::GuestRegionMmap| Region {
            first: region.start_addr().raw_value(),
            len: region.len(),
            host: region.get_host_address(MemoryRegionAddress(0)).expect("a mapping").addr(),
        };
        let regions: Vec<_> = memory.guest.iter().map(region).collect();
        let most = usize::from(SIZE) * regions.len();
        let pieces = vec![Piece::default(); most].into_boxed_slice();
        Self {
            ring: memory.ring(),
            size: SIZE,
            event_idx: case.event_idx,
            next_avail: 0,
            next_used: 0,
            buffers: Buffers { recent: regions[0], regions, pieces, count: 0 },
            written: case.written(),
            sink: Sink::default(),
        }
    }

    /// The driver's index; what it wrote before is read after.
    fn look(&self) -> Result<u16, Broken> {
        let index = u16::from_le(self.ring.avail[1].load(Ordering::Acquire));
        (index.wrapping_sub(self.next_avail) <= self.size).then_some(index).ok_or(Broken)
    }

    /// All chains up to the driver's index.
    fn batch(&mut self, seen: u16) -> Result<(), Broken> {
        let Self { ring, size, next_avail, next_used, buffers, written, sink, .. } = self;
        let (Ring { desc, avail, used, .. }, mask) = (*ring, *size - 1);
        let (desc, heads, used) = (&desc[..usize::from(*size)], &avail[2..], &used[1..]);
        while *next_avail != seen {
            let head = heads[usize::from(*next_avail & mask)].load(Ordering::Relaxed);
            buffers.walk(desc, u16::from_le(head))?;
            for Piece { host, len } in &buffers.pieces[..buffers.count] {
                sink.buffer(*host, *len);
            }
            sink.chains += 1;
            let slot = 2 * usize::from(*next_used & mask);
            used[slot].store(u32::from(u16::from_le(head)).to_le(), Ordering::Relaxed);
            used[slot + 1].store(written.to_le(), Ordering::Relaxed);
            *next_used = next_used.wrapping_add(1);
            *next_avail = next_avail.wrapping_add(1);
        }
        Ok(())
    }

    /// From a kick to the end of work.
    fn kick(&mut self) -> Result<(), Broken> {
        let mut seen = self.look()?;
        while seen != self.next_avail {
            if !self.event_idx {
                let hint = (VRING_USED_F_NO_NOTIFY as u16).to_le();
                self.ring.used_halves[0].store(hint, Ordering::Relaxed);
            }
            let old = self.next_used;
            self.batch(seen)?;
            self.ring.used_halves[1].store(self.next_used.to_le(), Ordering::Release);
            fence(Ordering::SeqCst);
            black_box(self.wants_interrupt(old));
            let (slot, value) = match self.event_idx {
                true => (2 + 4 * usize::from(self.size), self.next_avail.to_le()),
                false => (0, 0),
            };
            self.ring.used_halves[slot].store(value, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            seen = self.look()?;
        }
        Ok(())
    }

    fn wants_interrupt(&self, old: u16) -> bool {
        let slot = if self.event_idx { 2 + usize::from(self.size) } else { 0 };
        let said = u16::from_le(self.ring.avail[slot].load(Ordering::Relaxed));
        match self.event_idx {
            true => {
                let new = self.next_used;
                new.wrapping_sub(said).wrapping_sub(1) < new.wrapping_sub(old)
            }
            false => said & VRING_AVAIL_F_NO_INTERRUPT as u16 == 0,
        }
    }
}

impl Buffers {
    /// Collects a chain's buffers.
    #[inline]
    fn walk(&mut self, table: &[[AtomicU64; 2]], head: u16) -> Result<(), Broken> {
        let (mut index, mut total, mut before) = (head, 0u32, 0);
        self.count = 0;
        for _ in 0..table.len() {
            let [address, rest] = table.get(usize::from(index)).ok_or(Broken)?;
            let address = u64::from_le(address.load(Ordering::Relaxed));
            let rest = u64::from_le(rest.load(Ordering::Relaxed));
            let (len, flags) = (rest as u32, (rest >> 32) as u16);
            // Writable before readable: the flag goes away.
            if flags & INDIRECT != 0 || before & !flags & WRITE != 0 {
                return Err(Broken);
            }
            before = flags;
            total = total.checked_add(len).ok_or(Broken)?;
            self.resolve(address, u64::from(len))?;
            if flags & NEXT == 0 {
                return Ok(());
            }
            index = (rest >> 48) as u16;
        }
        Err(Broken)
    }

    /// Adds a buffer, which may reach across regions but not into a hole.
    #[inline]
    fn resolve(&mut self, mut address: u64, mut left: u64) -> Result<(), Broken> {
        while left > 0 {
            if address.wrapping_sub(self.recent.first) >= self.recent.len {
                let holds = |region: &&Region| address.wrapping_sub(region.first) < region.len;
                self.recent = *self.regions.iter().find(holds).ok_or(Broken)?;
            }
            let offset = address - self.recent.first;
            let len = left.min(self.recent.len - offset);
            let piece = self.pieces.get_mut(self.count).ok_or(Broken)?;
            *piece = Piece { host: self.recent.host + offset as usize, len: len as usize };
            self.count += 1;
            left -= len;
            address = address.checked_add(len).ok_or(Broken)?;
        }
        Ok(())
    }
}

impl Device for Floor<'_> {
    fn serve(&mut self) {
        self.kick().expect("an honest driver");
    }

    fn check(&mut self, case: &Case) {
        self.sink.check(case);
    }
}
