//! Pages that a guest reads and does not write.
//!
//! A page is a memory slot of its own, read-only (`KVM_MEM_READONLY`, KVM API 4.35): KVM answers the guest's
//! loads by mapping it, and treats stores as those to an address without memory. It is no part of the
//! guest's RAM, and never stands in the memory table of a vhost device.
#![expect(unsafe_code, reason = "the kernel keeps using the memory after the call")]

use std::io;
use std::mem::forget;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cubie_hv::HvError;
use cubie_mmio_bus::RegisterPage;
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{MmapRegion, VolatileMemory};

use crate::cache;
use crate::slots::Slots;

/// A page of one machine, which lives as long as the page: vCPUs can run the guest until they are gone,
/// and until the slot is deleted they need the memory.
pub(crate) struct KvmPage {
    vm: Arc<VmFd>,
    slots: Arc<Slots>,
    slot: u32,
    address: u64,
    memory: Arc<MmapRegion>,
    shown: Mutex<bool>,
}

impl KvmPage {
    /// Shows a fresh page to the guest of `vm` at `address`.
    pub(crate) fn map(vm: &Arc<VmFd>, slots: &Arc<Slots>, address: u64) -> Result<Self, HvError> {
        let refused = |e| HvError::new(format!("map a read-only page at {address:#x}"), e);
        let size = page_size();
        if !address.is_multiple_of(size as u64) {
            let why = format!("this host's pages are {} KiB and begin at multiples", size >> 10);
            return Err(refused(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        let memory = MmapRegion::new(size).map_err(|e| refused(io::Error::other(e)))?;
        let page = Self {
            vm: Arc::clone(vm),
            slots: Arc::clone(slots),
            slot: slots.take(),
            address,
            memory: Arc::new(memory),
            shown: Mutex::new(false),
        };
        page.show().map_err(refused)?;
        Ok(page)
    }

    /// Makes the slot, or deletes it.
    fn set_shown(&self, show: bool) -> io::Result<()> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown == show {
            return Ok(());
        }
        let region = kvm_userspace_memory_region {
            slot: self.slot,
            flags: KVM_MEM_READONLY,
            guest_phys_addr: self.address,
            memory_size: if show { self.memory.size() as u64 } else { 0 },
            userspace_addr: self.memory.as_ptr() as u64,
        };
        // SAFETY: the slot's number is this page's alone, and `drop` deletes the slot before the memory
        // goes, or leaks the memory.
        unsafe { self.vm.set_user_memory_region(region) }?;
        *shown = show;
        Ok(())
    }

    /// Stores, and returns how many cache lines were cleaned.
    fn put(memory: &MmapRegion, offset: usize, words: &[u32]) -> usize {
        assert!(offset.is_multiple_of(4), "offset {offset:#x} lies inside a word");
        let place = memory.get_slice(offset, size_of_val(words)).expect("words lie in the page");
        for (at, word) in (0..).step_by(4).zip(words) {
            let cell = place.get_atomic_ref::<AtomicU32>(at).expect("the words are aligned");
            cell.store(word.to_le(), Ordering::Release);
        }
        cache::clean(&place)
    }
}

impl RegisterPage for KvmPage {
    fn size(&self) -> usize {
        self.memory.size()
    }

    fn store(&self, offset: usize, words: &[u32]) {
        Self::put(&self.memory, offset, words);
    }

    fn hide(&self) -> io::Result<()> {
        self.set_shown(false)
    }

    fn show(&self) -> io::Result<()> {
        self.set_shown(true)
    }
}

impl Drop for KvmPage {
    fn drop(&mut self) {
        match self.hide() {
            Ok(()) => self.slots.give_back(self.slot),
            // The guest still has it: neither the number nor the memory is free.
            Err(_) => forget(Arc::clone(&self.memory)),
        }
    }
}

/// Bytes of a page of this host: 4, 16 or 64 KiB.
pub(crate) fn page_size() -> usize {
    // SAFETY: sysconf has no conditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("POSIX requires this value")
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    #[test]
    fn words_lie_little_endian_and_each_line_they_touch_is_cleaned() {
        let memory = MmapRegion::new(page_size()).unwrap();
        // No line is longer than 2 KiB (CTR_EL0), none shorter than 16 bytes.
        assert_eq!(KvmPage::put(&memory, 0x800, &[0x7472_6976]), 1);
        assert_eq!(KvmPage::put(&memory, 0x7fc, &[1, 0x7472_6976]), 2);
        assert_eq!(KvmPage::put(&memory, 0x810, &[]), 0);
        let mut bytes = [0; 12];
        memory.get_slice(0x7fc, 12).unwrap().read_slice(&mut bytes, 0).unwrap();
        assert_eq!(bytes, *b"\x01\0\0\0virt\0\0\0\0");
    }

    #[test]
    #[should_panic(expected = "in the page")]
    fn words_beyond_the_page_are_the_authors_mistake() {
        let memory = MmapRegion::new(page_size()).unwrap();
        KvmPage::put(&memory, page_size() - 4, &[1, 2]);
    }
}
