//! The guest's RAM, where the host can give it in huge pages, or as a file that other processes map as well.

use std::fs::File;
use std::io;
use std::ops::Range;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use vm_memory::mmap::{FromRangesError, MmapRegionError};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionCollectionError, GuestRegionMmap,
    MmapRegion,
};

/// A huge page of a host with pages of 4 KiB, and what one entry of the guest's stage 2 tables then maps.
const HUGE_PAGE: usize = 2 << 20;

/// Maps the memory of `ram`, whose start is a multiple of 2 MiB, `shared` as a memfd.
///
/// KVM maps a huge page of the host as one only where host and guest address are alike in their low 21
/// bits. Else each page of 4 KiB that a guest touches costs an exit: a 64-bit Linux came to its init with
/// eight times as many. (Of a memfd, the host gives huge pages only where its
/// `/sys/kernel/mm/transparent_hugepage/shmem_enabled` says so.)
pub(crate) fn map(ram: &Range<u64>, shared: bool) -> Result<GuestMemoryMmap, FromRangesError> {
    let len = (ram.end - ram.start) as usize;
    let file = shared.then(|| file(len)).transpose().map_err(MmapRegionError::Mmap)?;
    let region = aligned(len, || match &file {
        Some(file) => MmapRegion::from_file(
            FileOffset::new(file.try_clone().map_err(MmapRegionError::Mmap)?, 0),
            len,
        ),
        None => MmapRegion::new(len),
    })?;
    let region = GuestRegionMmap::new(region, GuestAddress(ram.start))
        .ok_or(GuestRegionCollectionError::NoMemoryRegion)?;
    Ok(GuestMemoryMmap::from_regions(vec![region])?)
}

/// `len` bytes without a name.
fn file(len: usize) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(c"guest", flags)?);
    file.set_len(len as u64)?;
    // Who shares it must not cut it short under us.
    let sealed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(sealed))?;
    Ok(file)
}

/// Memory by `map`, of `len` bytes, that begins at a huge page if it can be had so.
fn aligned(
    len: usize,
    map: impl Fn() -> Result<MmapRegion, MmapRegionError>,
) -> Result<MmapRegion, FromRangesError> {
    let region = map()?;
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
        map()
    };
    // A host may have room for the memory and not for twice of it (RLIMIT_AS, vm.overcommit_memory=2).
    Ok(below().or_else(|_: MmapRegionError| map())?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sys::resource::{Resource, setrlimit};
    use vm_memory::{Address, Bytes, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

    use super::*;

    #[test]
    fn host_and_guest_address_are_alike_within_a_huge_page() {
        // A small mapping before each, so that by chance alone none of them would lie well.
        let kept: Vec<_> = [32_u64, 512, 2046]
            .into_iter()
            .map(|mib| {
                let odd = MmapRegion::<()>::new(0x5000).unwrap();
                let memory = map(&(0x4000_0000..0x4000_0000 + (mib << 20)), false).unwrap();
                let host = memory.get_host_address(GuestAddress(0x4000_0000)).unwrap();
                assert_eq!(host as usize % HUGE_PAGE, 0, "{mib} MiB");
                assert_eq!(memory.last_addr().raw_value(), 0x3fff_ffff + (mib << 20));
                (odd, memory)
            })
            .collect();
        assert_eq!(kept.len(), 3);
    }

    #[test]
    fn shared_memory_is_what_another_process_finds_in_its_file() {
        let memory = map(&(0x4000_0000..0x4020_0000), true).unwrap();
        let region = memory.find_region(GuestAddress(0x4000_0000)).unwrap();
        let file = region.file_offset().expect("a file");
        memory.write_slice(b"here", GuestAddress(0x4010_0000)).unwrap();
        let elsewhere = MmapRegion::from_file(file.clone(), 0x20_0000).unwrap();
        let elsewhere = GuestRegionMmap::<()>::new(elsewhere, GuestAddress(0)).unwrap();
        let mut bytes = [0; 4];
        elsewhere.read_slice(&mut bytes, MemoryRegionAddress(0x10_0000)).unwrap();
        assert_eq!(&bytes, b"here");
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
        let len = (2 << 30) + 0x1000;
        aligned(len, || MmapRegion::new(len)).unwrap();
    }
}
