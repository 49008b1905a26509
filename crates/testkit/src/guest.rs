//! The guest's memory, and where its drivers find it.

use std::cell::RefCell;
use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use cubie_virtio_core::VirtioDevice;
use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use crate::pool::Pool;
use crate::registers::lock;
use crate::session::Journal;
use crate::{Slot, Socket};

/// First address of guest memory, not 0, as on the boards.
pub const RAM_BASE: u64 = 0x4000_0000;
/// Bytes of each of the two regions that have no gap between them.
const REGION: u64 = 8 << 20;
/// Both of them.
const MAINLAND: [(GuestAddress, usize); 2] =
    [(GuestAddress(RAM_BASE), REGION as usize), (GuestAddress(RAM_BASE + REGION), REGION as usize)];
/// There is no memory behind them,
const HOLE: Range<u64> = RAM_BASE + 2 * REGION..RAM_BASE + 2 * REGION + (1 << 20);
/// unless it is asked for.
const ISLAND: Range<u64> = HOLE.end..HOLE.end + (64 << 10);
/// Buffers begin so many bytes before the second region: the first chain of a test already has some
/// that cross the border.
const BEFORE_BORDER: u64 = 256;
/// Buffers begin at multiples of this.
const BUFFER_ALIGN: u64 = 16;
/// What may be a table of indirect descriptors is aligned to its size up to here, as a kernel's
/// allocator has it: such a table lies in one region.
const MOST_ALIGN: u64 = 4096;

thread_local! {
    static CURRENT: RefCell<Option<Guest>> = const { RefCell::new(None) };
}

/// A guest: memory, and slots for devices.
///
/// Drivers of `virtio_drivers` know their memory by the thread they run on. [`Guest::new`] settles
/// there; another thread that shall run drivers of the same guest calls [`Guest::enter`].
#[derive(Clone, Debug)]
pub struct Guest(Arc<Ram>);

#[derive(Debug)]
struct Ram {
    /// What all its mappings show.
    file: Arc<File>,
    /// In their order in the file.
    regions: Vec<(GuestAddress, usize)>,
    memory: Arc<GuestMemoryMmap>,
    rings: Mutex<Pool>,
    buffers: Mutex<Pool>,
    /// Of the slots whose sessions are written down.
    journals: Mutex<Vec<Journal>>,
}

impl Guest {
    /// A guest with memory full of zeros.
    ///
    /// # Panics
    /// On a thread that has a guest already.
    #[expect(clippy::new_without_default, reason = "it settles on the thread: more than a value")]
    pub fn new() -> Self {
        let guest = Self::apart();
        guest.enter();
        guest
    }

    /// A guest that has a hole in its memory and a third region behind that, an island which a machine can lose:
    /// nothing lies in it but what a test puts there.
    ///
    /// # Panics
    /// On a thread that has a guest already.
    pub fn with_island() -> Self {
        let island = (GuestAddress(ISLAND.start), (ISLAND.end - ISLAND.start) as usize);
        let guest = Self::of(&[MAINLAND[0], MAINLAND[1], island]);
        guest.enter();
        guest
    }

    /// One that is nobody's on this thread, for drivers that do not look for it.
    pub(crate) fn apart() -> Self {
        Self::of(&MAINLAND)
    }

    fn of(regions: &[(GuestAddress, usize)]) -> Self {
        let file = memfd_create("guest", MemfdFlags::CLOEXEC).map(File::from);
        let file = Arc::new(file.expect("a file for memory"));
        let bytes = regions.iter().map(|(_, len)| *len as u64).sum();
        file.set_len(bytes).expect("memory for a guest");
        let (memory, regions) = (map(&file, regions), regions.to_vec());
        let buffers = RAM_BASE + REGION - BEFORE_BORDER;
        Self(Arc::new(Ram {
            file,
            regions,
            memory,
            rings: Mutex::new(Pool::new(RAM_BASE..buffers)),
            buffers: Mutex::new(Pool::new(buffers..HOLE.start)),
            journals: Mutex::default(),
        }))
    }

    /// Makes this the guest of the calling thread, for good.
    ///
    /// # Panics
    /// On a thread that has another guest already.
    pub fn enter(&self) {
        CURRENT.with_borrow_mut(|current| {
            let other = current.as_ref().filter(|old| !Arc::ptr_eq(&old.0, &self.0));
            assert!(other.is_none(), "one guest a thread");
            *current = Some(self.clone());
        });
    }

    /// Plugs `device` in, with its registers in a page. Its driver is made of [`Slot::transport`].
    pub fn plug(&self, device: Box<dyn VirtioDevice>) -> Slot {
        self.socket().plug(device)
    }

    /// A place for a device that is to be driven in another way than [`Guest::plug`] has it:
    /// `guest.socket().trapped().legacy().plug(device)`.
    pub fn socket(&self) -> Socket {
        Socket::new(self.clone())
    }

    /// The memory, as devices get it.
    pub fn memory(&self) -> &Arc<GuestMemoryMmap> {
        &self.0.memory
    }

    /// The same memory, mapped elsewhere in the host's: as another machine has it that goes on with its
    /// content.
    pub fn remap(&self) -> Arc<GuestMemoryMmap> {
        map(&self.0.file, &self.0.regions)
    }

    /// The hole of [`Guest::with_island`]: addresses without memory between others that have some.
    pub fn hole(&self) -> Range<u64> {
        HOLE
    }

    /// The island of [`Guest::with_island`].
    pub fn island(&self) -> Range<u64> {
        ISLAND
    }

    /// Room for a buffer of `len` bytes, which stays until the guest is gone.
    pub fn buffer(&self, len: usize) -> GuestAddress {
        GuestAddress(self.take_buffer(len))
    }

    pub(crate) fn current() -> Self {
        let guest = CURRENT.with_borrow(Clone::clone);
        guest.expect("a thread with a guest: call Guest::new or Guest::enter first")
    }

    pub(crate) fn take_buffer(&self, len: usize) -> u64 {
        let may_be_table = (len as u64).is_multiple_of(BUFFER_ALIGN);
        let natural = (len as u64).next_power_of_two().min(MOST_ALIGN);
        let align = if may_be_table { natural } else { BUFFER_ALIGN };
        let piece = lock(&self.0.buffers).take(padded(len), align);
        piece.expect("guest memory for buffers")
    }

    pub(crate) fn give_buffer(&self, address: u64, len: usize) {
        lock(&self.0.buffers).give(address..address + padded(len));
    }

    /// From now on `journal` hears of buffers that drivers take back.
    pub(crate) fn tell(&self, journal: Journal) {
        lock(&self.0.journals).push(journal);
    }

    /// A driver of `virtio_drivers` is about to take this buffer back.
    pub(crate) fn takes_buffer(&self, address: u64) {
        lock(&self.0.journals).iter().for_each(|journal| journal.takes_buffer(address));
    }

    /// Memory for rings, all in the first region.
    pub(crate) fn take_rings(&self, len: u64, align: u64) -> u64 {
        let piece = lock(&self.0.rings).take(len, align);
        piece.expect("guest memory for rings")
    }

    pub(crate) fn give_rings(&self, range: Range<u64>) {
        lock(&self.0.rings).give(range);
    }
}

/// Both regions, without a gap between them.
fn map(file: &Arc<File>, regions: &[(GuestAddress, usize)]) -> Arc<GuestMemoryMmap> {
    let mut offset = 0;
    let regions = regions.iter().map(|(base, len)| {
        let start = FileOffset::from_arc(Arc::clone(file), offset);
        offset += *len as u64;
        (*base, *len, Some(start))
    });
    Arc::new(GuestMemoryMmap::from_ranges_with_files(regions).expect("memory for a guest"))
}

fn padded(len: usize) -> u64 {
    (len as u64).next_multiple_of(BUFFER_ALIGN)
}
