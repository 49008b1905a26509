//! Guest memory resolved to host memory: the only place that knows where a guest address really is.
#![expect(unsafe_code, reason = "ring memory is shared with the guest and read by pointer")]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

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

    /// Reads the 32-bit integer at `offset`.
    #[cfg(feature = "driver")]
    #[inline]
    pub(crate) fn load32(&self, offset: usize) -> u32 {
        u32::from_le(self.cell::<AtomicU32>(offset).load(Ordering::Relaxed))
    }

    /// Writes the 32-bit integer at `offset`.
    #[inline]
    pub(crate) fn store32(&self, offset: usize, value: u32) {
        self.cell::<AtomicU32>(offset).store(value.to_le(), Ordering::Relaxed);
    }

    /// Reads the 64-bit integer at `offset`.
    #[inline]
    pub(crate) fn load64(&self, offset: usize) -> u64 {
        u64::from_le(self.cell::<AtomicU64>(offset).load(Ordering::Relaxed))
    }

    /// Reads the 64-bit integer at `offset`, before all that is read after it.
    #[cfg(feature = "driver")]
    #[inline]
    pub(crate) fn load64_acquire(&self, offset: usize) -> u64 {
        u64::from_le(self.cell::<AtomicU64>(offset).load(Ordering::Acquire))
    }

    /// Writes the 64-bit integer at `offset`, after all that was written before it.
    #[cfg(feature = "driver")]
    #[inline]
    pub(crate) fn store64_release(&self, offset: usize, value: u64) {
        self.cell::<AtomicU64>(offset).store(value.to_le(), Ordering::Release);
    }

    /// Writes the 64-bit integer at `offset`.
    #[cfg(feature = "driver")]
    #[inline]
    pub(crate) fn store64(&self, offset: usize, value: u64) {
        self.cell::<AtomicU64>(offset).store(value.to_le(), Ordering::Relaxed);
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
        // mapped as long as its holder keeps the memory. A is an atomic integer: any bits are valid,
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
#[derive(Clone, Debug)]
pub(crate) struct Translator {
    regions: Vec<Region>,
    recent: usize,
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
        Self { regions: memory.iter().filter_map(resolve).collect(), recent: 0, memory }
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
}
