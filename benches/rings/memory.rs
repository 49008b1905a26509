//! A lane's guest memory, and its ring as slices of atomics: the view of the driver and of the floor.
#![expect(unsafe_code, reason = "ring memory as slices, as the hand-written walk wants it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use cubie::virtq::QueueParams;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::case::{Case, SIZE};

/// The ring's parts, all in the first region.
pub(crate) const RING: QueueParams =
    QueueParams { size: SIZE, desc: 0x1000, driver: 0x2000, device: 0x3000 };
const REGION: usize = 1 << 20;

/// Where a region begins: there are holes between them.
pub(crate) fn region(number: u16) -> u64 {
    u64::from(number) * 2 * REGION as u64
}

/// The memory of a lane.
pub(crate) struct Memory {
    pub(crate) guest: Arc<GuestMemoryMmap>,
}

/// The ring in it.
#[derive(Clone, Copy)]
pub(crate) struct Ring<'m> {
    /// Address, then length, flags and next (packed: length, id, flags).
    pub(crate) desc: &'m [[AtomicU64; 2]],
    /// Flags, index, heads, used event (packed: the driver's event suppression).
    pub(crate) avail: &'m [AtomicU16],
    /// Flags and index, then pairs of head and length.
    pub(crate) used: &'m [AtomicU32],
    /// The same in halves: flags, index, …, available event.
    pub(crate) used_halves: &'m [AtomicU16],
}

impl Memory {
    pub(crate) fn new(case: &Case) -> Self {
        let regions: Vec<_> =
            (0..case.regions).map(|number| (GuestAddress(region(number)), REGION)).collect();
        Self { guest: Arc::new(GuestMemoryMmap::from_ranges(&regions).expect("memory")) }
    }

    pub(crate) fn ring(&self) -> Ring<'_> {
        let n = usize::from(SIZE);
        Ring {
            desc: self.atomics(RING.desc, n),
            avail: self.atomics(RING.driver, 3 + n),
            used: self.atomics(RING.device, 1 + 2 * n),
            used_halves: self.atomics(RING.device, 3 + 4 * n),
        }
    }

    /// `count` atomic integers at this guest address. (`T` is one, or an array of them.)
    fn atomics<T>(&self, address: u64, count: usize) -> &[T] {
        let part = self.guest.get_slice(GuestAddress(address), count * size_of::<T>());
        let start = part.expect("a part inside of a region").ptr_guard_mut().as_ptr().cast::<T>();
        assert!(start.is_aligned());
        // SAFETY: the slice lies in a mapping that lives as long as `self` (`get_slice`) and is aligned
        // (asserted). Atomic integers may have any bits and be shared with whoever writes them.
        unsafe { std::slice::from_raw_parts(start, count) }
    }
}
