//! Guest memory with a second copy, in which all that may change is changed as well.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// First address and length of each region: the second begins where the first ends, the third is
/// behind a hole.
pub(crate) const REGIONS: [(u64, usize); 3] = [(0, 0x2000), (0x2000, 0x1000), (0x8000, 0x1000)];

/// Where a well-placed ring of up to 32 entries has its parts.
pub(crate) const DESC: u64 = 0x100;
/// See [`DESC`].
pub(crate) const AVAIL: u64 = 0x400;
/// See [`DESC`].
pub(crate) const USED: u64 = 0x600;
/// 64 descriptors of indirect tables.
pub(crate) const TABLE: u64 = 0x800;
/// Buffers.
pub(crate) const DATA: u64 = 0x1000;

thread_local! {
    /// Memory of earlier runs, cleared: to map it anew would cost more than the run.
    static POOL: RefCell<Vec<Arc<GuestMemoryMmap>>> = const { RefCell::new(vec![]) };
}

/// Guest memory and its copy.
pub(crate) struct Guest {
    memory: Arc<GuestMemoryMmap>,
    /// Host address of each region.
    hosts: [usize; 3],
    /// All regions, one behind the other.
    copy: Vec<u8>,
    now: Vec<u8>,
}

impl Guest {
    /// Memory full of zeroes.
    pub(crate) fn new() -> Self {
        let memory = POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
            let regions = REGIONS.map(|(first, len)| (GuestAddress(first), len));
            Arc::new(GuestMemoryMmap::from_ranges(&regions).expect("three small mappings"))
        });
        let host =
            |(first, _)| memory.get_host_address(GuestAddress(first)).expect("mapped").addr();
        let hosts = REGIONS.map(host);
        let len = REGIONS.iter().map(|(_, len)| len).sum();
        Self { memory, hosts, copy: vec![0; len], now: vec![0; len] }
    }

    /// The memory, as a device gets it.
    pub(crate) fn memory(&self) -> &Arc<GuestMemoryMmap> {
        &self.memory
    }

    /// Where `len` bytes at a guest address lie in the copy, if they all exist.
    pub(crate) fn place(&self, address: u64, len: usize) -> Option<usize> {
        let mut base = 0;
        for (first, size) in REGIONS {
            if address >= first && address - first <= (size as u64).saturating_sub(len as u64) {
                return Some(base + (address - first) as usize);
            }
            base += size;
        }
        None
    }

    /// Where `len` bytes at a host address lie in the copy.
    ///
    /// # Panics
    /// If they are not in one region: the device was led out of guest memory.
    pub(crate) fn place_of_host(&self, host: usize, len: usize) -> usize {
        let mut base = 0;
        for ((_, size), first) in REGIONS.iter().zip(self.hosts) {
            if host >= first && host < first + size {
                assert!(len <= first + size - host, "a piece of {len} bytes leaves its region");
                return base + (host - first);
            }
            base += size;
        }
        panic!("a piece outside of guest memory");
    }

    /// The guest writes; nothing where there is no memory.
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) {
        if let Some(at) = self.place(address, bytes.len()) {
            self.memory.write_slice(bytes, GuestAddress(address)).expect("there is memory");
            self.copy[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// What the guest sees at `address`.
    pub(crate) fn read16(&self, address: u64) -> Option<u16> {
        let at = self.place(address, 2)?;
        Some(u16::from_le_bytes([self.copy[at], self.copy[at + 1]]))
    }

    /// The copy's bytes.
    pub(crate) fn copy(&self) -> &[u8] {
        &self.copy
    }

    /// The copy's bytes, to be changed as the device is about to change memory.
    pub(crate) fn copy_mut(&mut self) -> &mut [u8] {
        &mut self.copy
    }

    /// Compares memory with its copy, which takes over what has changed in the device's own `parts`.
    ///
    /// # Panics
    /// If anything else has changed.
    pub(crate) fn check(&mut self, parts: &[Range<usize>]) {
        let mut at = 0;
        for (first, len) in REGIONS {
            self.memory
                .read_slice(&mut self.now[at..at + len], GuestAddress(first))
                .expect("mapped");
            at += len;
        }
        for part in parts {
            self.copy[part.clone()].copy_from_slice(&self.now[part.clone()]);
        }
        if self.now != self.copy {
            let at = (0..at).find(|at| self.now[*at] != self.copy[*at]);
            panic!("the device wrote where it may not: byte {at:x?} of guest memory");
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let zeroes = vec![0; self.copy.len()];
        for (first, len) in REGIONS {
            self.memory.write_slice(&zeroes[..len], GuestAddress(first)).expect("mapped");
        }
        POOL.with_borrow_mut(|pool| pool.push(self.memory.clone()));
    }
}
