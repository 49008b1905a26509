//! Guest memory resolved to host memory: the only place that knows where a guest address really is.
#![expect(unsafe_code, reason = "ring memory is shared with the guest and read by pointer")]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::QueueError;

/// Bytes of the largest indirect table: as many descriptors as a 16-bit index reaches.
pub(crate) const MOST_TABLE: usize = 16 * 65535;

/// A piece of guest memory with one host address: ring parts and indirect tables.
///
/// All accesses are atomic, since the guest may write at the same time, and little endian. An offset
/// outside of the window is a bug of this crate, never the guest's doing, and panics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    host: NonNull<u8>,
    len: usize,
}

// SAFETY: a window is a pointer into a shared mapping that all threads may touch by atomics; its
// holder keeps the mapping alive (`Translator` lives beside it).
unsafe impl Send for Window {}

impl Window {
    /// Reads the 16-bit integer at `offset`.
    #[inline]
    pub(crate) fn load16(&self, offset: usize, order: Ordering) -> u16 {
        u16::from_le(self.cell::<AtomicU16>(offset).load(order))
    }

    /// Writes the 16-bit integer at `offset`.
    #[inline]
    pub(crate) fn store16(&self, offset: usize, value: u16, order: Ordering) {
        self.cell::<AtomicU16>(offset).store(value.to_le(), order);
    }

    /// Writes the 32-bit integer at `offset`.
    #[inline]
    pub(crate) fn store32(&self, offset: usize, value: u32) {
        self.cell::<AtomicU32>(offset).store(value.to_le(), Ordering::Relaxed);
    }

    /// Reads the 32-bit integer at `offset`.
    #[inline]
    pub(crate) fn load32(&self, offset: usize) -> u32 {
        u32::from_le(self.cell::<AtomicU32>(offset).load(Ordering::Relaxed))
    }

    /// Reads the 64-bit integer at `offset`.
    #[inline]
    pub(crate) fn load64(&self, offset: usize) -> u64 {
        u64::from_le(self.cell::<AtomicU64>(offset).load(Ordering::Relaxed))
    }

    /// Reads the 64-bit integer at `offset`, before all that is read after it.
    #[inline]
    pub(crate) fn load64_acquire(&self, offset: usize) -> u64 {
        u64::from_le(self.cell::<AtomicU64>(offset).load(Ordering::Acquire))
    }

    /// Writes the 64-bit integer at `offset`.
    #[inline]
    pub(crate) fn store64(&self, offset: usize, value: u64) {
        self.cell::<AtomicU64>(offset).store(value.to_le(), Ordering::Relaxed);
    }

    /// Writes the 64-bit integer at `offset`, after all that was written before it.
    #[inline]
    pub(crate) fn store64_release(&self, offset: usize, value: u64) {
        self.cell::<AtomicU64>(offset).store(value.to_le(), Ordering::Release);
    }

    /// True if the host address is a multiple of `align` (a power of two).
    pub(crate) fn is_aligned(&self, align: usize) -> bool {
        self.host.as_ptr().addr() & (align - 1) == 0
    }

    #[inline]
    fn cell<A>(&self, offset: usize) -> &A {
        let end = offset + size_of::<A>();
        assert!(end <= self.len, "an offset inside the window");
        let at = self.host.as_ptr().wrapping_add(offset).cast::<A>();
        assert!(at.addr() & (align_of::<A>() - 1) == 0, "an aligned offset");
        // SAFETY: `at` lies in the window (first assertion), is aligned (second), and the window is
        // there as long as its holder keeps the `Translator`. A is an atomic integer: any bits are valid,
        // and the guest's concurrent writes are what atomics are for.
        unsafe { &*at }
    }
}

#[derive(Clone, Copy, Debug)]
struct Region {
    first: u64,
    len: u64,
    host: NonNull<u8>,
}

/// Guest addresses to host addresses, resolved once from the memory map.
#[derive(Debug)]
pub(crate) struct Translator {
    regions: Vec<Region>,
    recent: usize,
    /// Copy of an indirect table that does not lie in one piece; made at the first such table, and of
    /// the largest size, so that no window on it ever moves.
    scattered: Option<Box<[AtomicU64]>>,
    memory: Arc<GuestMemoryMmap>,
}

// SAFETY: the pointers lead into mappings that `memory` keeps alive, and are only handed out as
// `Window`s and iovecs, whose holders access them as shared memory.
unsafe impl Send for Translator {}

impl Translator {
    pub(crate) fn new(memory: Arc<GuestMemoryMmap>) -> Self {
        let resolve = |region: &vm_memory::GuestRegionMmap| {
            let host = region.get_host_address(vm_memory::MemoryRegionAddress(0)).ok()?;
            Some(Region {
                first: region.start_addr().raw_value(),
                len: region.len(),
                host: NonNull::new(host)?,
            })
        };
        let regions = memory.iter().filter_map(resolve).collect();
        Self { regions, recent: 0, scattered: None, memory }
    }

    /// The memory behind the addresses.
    pub(crate) fn memory(&self) -> &Arc<GuestMemoryMmap> {
        &self.memory
    }

    /// The host's view of `len` bytes at `address`, or of as many as there are in one piece (at least
    /// one); `None` in a hole. `len` is not zero.
    #[inline]
    pub(crate) fn piece(&mut self, address: u64, len: usize) -> Option<(NonNull<u8>, usize)> {
        let hit = |region: &Region| address.wrapping_sub(region.first) < region.len;
        if !self.regions.get(self.recent).is_some_and(hit) {
            self.recent = self.regions.iter().position(hit)?;
        }
        let region = self.regions[self.recent];
        let offset = address - region.first;
        let left = usize::try_from(region.len - offset).unwrap_or(usize::MAX);
        // SAFETY: `offset` is less than the region's length, so the sum stays inside its mapping.
        let host = unsafe { region.host.add(offset as usize) };
        Some((host, len.min(left)))
    }

    /// A window on `len` bytes at `address`, when they are all in one piece. `len` is not zero.
    pub(crate) fn window(&mut self, address: u64, len: usize) -> Option<Window> {
        let (host, there) = self.piece(address, len)?;
        (there == len).then_some(Window { host, len })
    }

    /// A part of a ring at the driver's `address`, which must be a multiple of `align`.
    pub(crate) fn part(
        &mut self,
        part: &'static str,
        address: u64,
        len: usize,
        align: usize,
    ) -> Result<Window, QueueError> {
        let window = self.window(address, len).ok_or(QueueError::Ring { part, address })?;
        // The standard's alignment is the guest's; the host's need only suit the accesses.
        let aligned = address.is_multiple_of(align as u64) && window.is_aligned(align.min(8));
        aligned.then_some(window).ok_or(QueueError::Alignment { part, address, align })
    }

    /// A window on an indirect table of `len` bytes, not zero and at most [`MOST_TABLE`]; on a copy of
    /// it, good until the next table, when it lies in several pieces. `None` when some of it is not in
    /// memory or not aligned.
    #[inline]
    pub(crate) fn table(&mut self, address: u64, len: usize) -> Option<Window> {
        let window = self.window(address, len).or_else(|| self.gather(address, len));
        window.filter(|window| window.is_aligned(align_of::<u64>()))
    }

    #[cold]
    fn gather(&mut self, address: u64, len: usize) -> Option<Window> {
        const WORD: usize = size_of::<u64>();
        let mut done = 0;
        while done < len {
            let (host, here) = self.piece(address.checked_add(done as u64)?, len - done)?;
            let piece = Window { host, len: here };
            if !here.is_multiple_of(WORD) || !piece.is_aligned(WORD) {
                return None;
            }
            let copy = self.scattered.get_or_insert_with(|| {
                std::iter::repeat_with(AtomicU64::default).take(MOST_TABLE / WORD).collect()
            });
            for (i, word) in (0..here / WORD).zip(&copy[done / WORD..]) {
                word.store(piece.load64(WORD * i).to_le(), Ordering::Relaxed);
            }
            done += here;
        }
        let copy = NonNull::from(self.scattered.as_ref()?.get(..len / WORD)?);
        Some(Window { host: copy.cast(), len })
    }
}
