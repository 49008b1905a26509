//! Guest memory resolved to host memory: the only place that knows where a guest address really is.
#![expect(unsafe_code, reason = "ring memory is shared with the guest and read by pointer")]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::QueueError;

/// Bytes of the largest indirect table: as many descriptors as a 16-bit index reaches.
pub(crate) const MOST_TABLE: usize = 16 * 65535;

/// A part of a ring: its name, its bytes, and what its guest address is a multiple of.
pub(crate) type Part = (&'static str, usize, usize);

/// A piece of guest memory with one host address: ring parts and indirect tables.
///
/// All accesses are atomic, since the guest may write at the same time, and little endian. An offset
/// outside of the window is a bug of this crate, never the guest's doing, and panics.
///
/// It begins at a multiple of `ALIGN`: what is wider cannot be read or written through it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window<const ALIGN: usize> {
    host: NonNull<u8>,
    len: usize,
}

/// A table of descriptors, each of which is read as two halves.
pub(crate) type Table = Window<8>;

// SAFETY: a window is a pointer into a shared mapping that all threads may touch by atomics; its
// holder keeps the mapping alive (`Translator` lives beside it).
unsafe impl<const ALIGN: usize> Send for Window<ALIGN> {}

impl<const ALIGN: usize> Window<ALIGN> {
    /// `None` when the host address is not a multiple of `ALIGN` (a power of two).
    fn new(host: NonNull<u8>, len: usize) -> Option<Self> {
        (host.as_ptr().addr() & (ALIGN - 1) == 0).then_some(Self { host, len })
    }

    /// Reads the byte at `offset`.
    #[inline]
    fn load8(&self, offset: usize) -> u8 {
        self.cell::<AtomicU8>(offset).load(Ordering::Relaxed)
    }

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

    /// Reads the two 64-bit integers at `offset`.
    #[inline]
    pub(crate) fn load_pair(&self, offset: usize) -> [u64; 2] {
        let [first, second] = self.cell::<[AtomicU64; 2]>(offset);
        [first, second].map(|half| u64::from_le(half.load(Ordering::Relaxed)))
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

    #[inline]
    fn cell<A>(&self, offset: usize) -> &A {
        const { assert!(align_of::<A>() <= ALIGN && ALIGN.is_power_of_two()) };
        let inside = offset.checked_add(size_of::<A>()).is_some_and(|end| end <= self.len);
        assert!(inside && offset.is_multiple_of(align_of::<A>()), "an offset of the window");
        let at = self.host.as_ptr().wrapping_add(offset).cast::<A>();
        // SAFETY: `at` lies in the window, and is aligned since both the window and the offset in it are
        // (asserted). The window is there as long as its holder keeps the `Translator`. A consists of atomic
        // integers: any bits are valid, and the guest's concurrent writes are what atomics are for.
        unsafe { &*at }
    }
}

/// Eight bytes of a copied table, aligned as [`Table`] asks for.
#[derive(Debug, Default)]
#[repr(align(8))]
struct Word([AtomicU8; 8]);

#[derive(Clone, Copy, Debug)]
struct Region {
    first: u64,
    len: u64,
    host: NonNull<u8>,
}

/// Guest addresses to host addresses, resolved once from the memory map.
#[derive(Debug)]
pub(crate) struct Translator {
    regions: Box<[Region]>,
    /// The region of the last address, empty at first.
    recent: Region,
    /// Copy of the last indirect table that did not lie in one aligned piece, and room for the largest so
    /// far. It may move with each such table: then nobody has a window on it.
    scattered: Vec<Word>,
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
        let recent = Region { first: 0, len: 0, host: NonNull::dangling() };
        Self { regions, recent, scattered: vec![], memory }
    }

    /// The memory behind the addresses.
    pub(crate) fn memory(&self) -> &Arc<GuestMemoryMmap> {
        &self.memory
    }

    /// The host's view of `len` bytes at `address`, or of as many as there are in one piece (at least
    /// one); `None` in a hole. `len` is not zero.
    pub(crate) fn piece(&mut self, address: u64, len: usize) -> Option<(NonNull<u8>, usize)> {
        let (host, left) = self.resolve(address)?;
        Some((host, usize::try_from(left).map_or(len, |left| len.min(left))))
    }

    /// The host's view of `len` bytes at `address`, when they are all in one piece. `len` is not zero.
    #[inline]
    pub(crate) fn whole(&mut self, address: u64, len: usize) -> Option<NonNull<u8>> {
        let (host, left) = self.resolve(address)?;
        (len as u64 <= left).then_some(host)
    }

    /// Where `address` is, and how much there is from there on.
    #[inline]
    fn resolve(&mut self, address: u64) -> Option<(NonNull<u8>, u64)> {
        if address.wrapping_sub(self.recent.first) >= self.recent.len {
            self.recent = *self.region(address)?;
        }
        let offset = address - self.recent.first;
        // SAFETY: `offset` is less than the region's length, so the sum stays inside its mapping.
        let host = unsafe { self.recent.host.add(offset as usize) };
        Some((host, self.recent.len - offset))
    }

    /// Not inlined: the registers belong to the loop that asks.
    #[inline(never)]
    fn region(&self, address: u64) -> Option<&Region> {
        let holds = |region: &&Region| address.wrapping_sub(region.first) < region.len;
        self.regions.iter().find(holds)
    }

    /// A part of a ring at the driver's `address`.
    pub(crate) fn part<const ALIGN: usize>(
        &mut self,
        (part, len, align): Part,
        address: u64,
    ) -> Result<Window<ALIGN>, QueueError> {
        let host = self.whole(address, len).ok_or(QueueError::Ring { part, address })?;
        // The standard's alignment is the guest's; the host's need only suit the accesses.
        let window = Window::new(host, len).filter(|_| address.is_multiple_of(align as u64));
        window.ok_or(QueueError::Alignment { part, address, align })
    }

    /// An indirect table of `len` bytes, not zero and at most [`MOST_TABLE`]; a copy of it, good until the
    /// next table, when it lies in several pieces or between two words. `None` when some of it is not in
    /// memory.
    #[inline]
    pub(crate) fn table(&mut self, address: u64, len: usize) -> Option<Table> {
        match self.whole(address, len).and_then(|host| Table::new(host, len)) {
            Some(table) => Some(table),
            None => self.gather(address, len),
        }
    }

    #[cold]
    fn gather(&mut self, address: u64, len: usize) -> Option<Table> {
        let mut copy = std::mem::take(&mut self.scattered);
        copy.resize_with(copy.len().max(len.div_ceil(size_of::<Word>())), Word::default);
        let there = self.copy_to(&copy, address, len);
        let table = Table::new(NonNull::from(&copy[..]).cast(), len);
        self.scattered = copy;
        there.and(table)
    }

    /// Copies `len` bytes from `address` on, if all of them are in memory.
    fn copy_to(&mut self, copy: &[Word], address: u64, len: usize) -> Option<()> {
        let mut bytes = copy.iter().flat_map(|word| &word.0);
        let mut done = 0;
        while done < len {
            let (host, here) = self.piece(address.checked_add(done as u64)?, len - done)?;
            let piece = Window::<1>::new(host, here)?;
            for (offset, byte) in (0..here).zip(bytes.by_ref()) {
                byte.store(piece.load8(offset), Ordering::Relaxed);
            }
            done += here;
        }
        Some(())
    }
}
