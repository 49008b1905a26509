//! Guest memory, lent to the kernel.
#![expect(unsafe_code, reason = "the kernel keeps using the memory after the call")]

use std::sync::{Arc, OnceLock};

use cubie_hv::HvError;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};

use crate::slots::Slots;

/// The memory of one machine, alive as long as anything that can run the guest holds a clone of this.
#[derive(Clone, Debug, Default)]
pub(crate) struct GuestRam(Arc<OnceLock<GuestMemoryMmap>>);

impl GuestRam {
    /// Gives `memory` to the guest of `vm`, once, within `ipa_bits` of address space.
    pub(crate) fn map(
        &self,
        vm: &VmFd,
        slots: &Slots,
        memory: &GuestMemoryMmap,
        ipa_bits: u32,
    ) -> Result<(), HvError> {
        if memory.last_addr().raw_value() >> ipa_bits != 0 {
            let what =
                format!("map memory beyond the {ipa_bits} address bits of this host's guests");
            return Err(HvError::new(what, errno(libc::E2BIG)));
        }
        if self.0.set(memory.clone()).is_err() {
            return Err(HvError::new("map a second memory", errno(libc::EEXIST)));
        }
        for region in memory.iter() {
            ask_for_huge_pages(region);
            let region = kvm_userspace_memory_region {
                slot: slots.take(),
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
            };
            // SAFETY: the region is mapped as long as `memory`'s clone in `self` lives, of which the
            // VM and every vCPU hold their share: nobody is left to run the guest when it goes.
            unsafe { vm.set_user_memory_region(region) }
                .map_err(|e| HvError::new("map the guest's memory", e))?;
        }
        Ok(())
    }
}

/// Fewer and larger pages mean fewer exits on a guest's first touch, and shorter walks. Hosts whose policy
/// is «madvise» want to be asked (Linux, admin-guide/mm/transhuge.rst); those without them refuse, and
/// nothing is lost.
fn ask_for_huge_pages(region: &GuestRegionMmap) {
    // SAFETY: the range is `region`'s own mapping, and the advice changes nothing that it holds.
    unsafe { libc::madvise(region.as_ptr().cast(), region.size(), libc::MADV_HUGEPAGE) };
}

fn errno(number: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(number)
}
