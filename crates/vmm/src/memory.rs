//! The guest's RAM, where the host can give it in huge pages.

use std::ops::Range;

use vm_memory::mmap::{FromRangesError, MmapRegionError};
use vm_memory::{
    GuestAddress, GuestMemoryMmap, GuestRegionCollectionError, GuestRegionMmap, MmapRegion,
};

/// A huge page of a host with pages of 4 KiB, and what one entry of the guest's stage 2 tables then maps.
const HUGE_PAGE: usize = 2 << 20;

/// Maps the memory of `ram`, whose start is a multiple of 2 MiB.
///
/// KVM maps a huge page of the host as one only where host and guest address are alike in their low 21
/// bits. Else each page of 4 KiB that a guest touches costs an exit: a 64-bit Linux came to its init with
/// eight times as many.
pub(crate) fn map(ram: &Range<u64>) -> Result<GuestMemoryMmap, FromRangesError> {
    let region =
        GuestRegionMmap::new(aligned((ram.end - ram.start) as usize)?, GuestAddress(ram.start))
            .ok_or(GuestRegionCollectionError::NoMemoryRegion)?;
    Ok(GuestMemoryMmap::from_regions(vec![region])?)
}

/// Memory that begins at a huge page, if it can be had.
fn aligned(len: usize) -> Result<MmapRegion, FromRangesError> {
    let region = MmapRegion::new(len)?;
    let beyond = region.as_ptr() as usize % HUGE_PAGE;
    if beyond == 0 {
        return Ok(region);
    }
    // Linux aligns what is a whole number of huge pages by itself since 6.7. Before that it maps downwards
    // from the highest gap that is large enough: with something longer in the place of this region the next
    // one lies under that, where it begins well.
    drop(region);
    let below = || {
        let _above = MmapRegion::<()>::new(len + beyond)?;
        MmapRegion::new(len)
    };
    // A host may have room for the memory and not for twice of it (RLIMIT_AS, vm.overcommit_memory=2).
    Ok(below().or_else(|_: MmapRegionError| MmapRegion::new(len))?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sys::resource::{Resource, setrlimit};
    use vm_memory::{Address, GuestMemoryBackend};

    use super::*;

    #[test]
    fn host_and_guest_address_are_alike_within_a_huge_page() {
        // A small mapping before each, so that by chance alone none of them would lie well.
        let kept: Vec<_> = [32_u64, 512, 2046]
            .into_iter()
            .map(|mib| {
                let odd = MmapRegion::<()>::new(0x5000).unwrap();
                let memory = map(&(0x4000_0000..0x4000_0000 + (mib << 20))).unwrap();
                let host = memory.get_host_address(GuestAddress(0x4000_0000)).unwrap();
                assert_eq!(host as usize % HUGE_PAGE, 0, "{mib} MiB");
                assert_eq!(memory.last_addr().raw_value(), 0x3fff_ffff + (mib << 20));
                (odd, memory)
            })
            .collect();
        assert_eq!(kept.len(), 3);
    }

    #[test]
    fn a_host_with_room_for_the_memory_only_once_gives_it() {
        // The limit is for a process of its own: this test, once more.
        const LIMITED: &str = "CUBIE_TEST_LIMITED";
        if std::env::var_os(LIMITED).is_none() {
            let name = "memory::tests::a_host_with_room_for_the_memory_only_once_gives_it";
            let mut this = Command::new(std::env::current_exe().unwrap());
            let output = this.args(["--exact", name]).env(LIMITED, "").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let _odd = MmapRegion::<()>::new(0x5000).unwrap();
        setrlimit(Resource::RLIMIT_AS, 3 << 30, 3 << 30).unwrap();
        // Not whole huge pages, so that no kernel aligns it by itself.
        aligned((2 << 30) + 0x1000).unwrap();
    }
}
