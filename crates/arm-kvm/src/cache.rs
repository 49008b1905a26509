//! Memory that a guest reads past the cache.
//!
//! A guest maps the registers of devices as device memory. On CPUs without FEAT_S2FWB (Cortex-A53, A57,
//! A72) it is device memory then, whatever the hypervisor's tables say: the guest's loads go to the memory
//! itself, while the host's stores may still be in a cache. KVM cleans a page when it maps it; what is
//! stored later has to be cleaned here. With FEAT_S2FWB this is not needed and harmless.
//!
//! The lab's emulator has no caches: the lab shows that these instructions are allowed, and a unit test
//! that each line gets one; what they are for shows only on a board.
#![expect(unsafe_code, reason = "cache maintenance has no other form than instructions")]

use std::arch::asm;

use vm_memory::VolatileSlice;

/// Cleans `memory` from the data cache to the point of coherency and waits until that is done. What was
/// stored before is there for every observer. Returns how many lines were cleaned.
pub(crate) fn clean(memory: &VolatileSlice<'_>) -> usize {
    let start = memory.ptr_guard();
    let lines = lines(start.as_ptr() as usize, memory.len(), line_size());
    let cleaned = lines.fold(0, |cleaned, line| {
        // SAFETY: each line has a byte of `memory`, which is mapped, and cleaning changes no value. Linux
        // allows it to user space (SCTLR_EL1.UCI). Not `nomem`: stores stay before it.
        unsafe { asm!("dc cvac, {}", in(reg) line, options(nostack, preserves_flags)) };
        cleaned + 1
    });
    // SAFETY: a barrier, for the full system: device memory is outer shareable.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
    cleaned
}

/// Bytes of the smallest data cache line of any CPU here: CTR_EL0.DminLine (ARM DDI 0487) is the logarithm of
/// its words.
fn line_size() -> usize {
    let ctr: usize;
    // SAFETY: Linux lets user space read the register (SCTLR_EL1.UCT) or does it in its place.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    4 << (ctr >> 16 & 0xf)
}

/// Where the lines of `size` bytes begin that hold any of the `len` bytes at `start`.
fn lines(start: usize, len: usize, size: usize) -> impl Iterator<Item = usize> {
    let first = start & !(size - 1);
    (first..start + len).step_by(size).filter(move |_| len > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{MmapRegion, VolatileMemory};

    #[test]
    fn each_line_that_is_touched_counts_once() {
        let count = |start, len| lines(start, len, 64).count();
        assert_eq!(count(0x1000, 0), 0);
        assert_eq!(count(0x1020, 0), 0);
        assert_eq!([count(0x1000, 4), count(0x103c, 4), count(0x1000, 64)], [1, 1, 1]);
        assert_eq!([count(0x103c, 8), count(0x1000, 65), count(0x103f, 2)], [2, 2, 2]);
        assert_eq!(count(0x103c, 4 + 64 + 4), 3);
        assert_eq!(lines(0x103c, 8, 64).collect::<Vec<_>>(), [0x1000, 0x1040]);
        assert_eq!(lines(0x103c, 8, 16).collect::<Vec<_>>(), [0x1030, 0x1040]);
    }

    #[test]
    fn this_cpu_cleans_as_many_lines_as_the_range_has() {
        let size = line_size();
        assert!(size.is_power_of_two() && (16..=2048).contains(&size), "{size}");
        let memory: MmapRegion = MmapRegion::new(4 * size).unwrap();
        let cleaned = |offset, len| clean(&memory.get_slice(offset, len).unwrap());
        assert_eq!([cleaned(0, 4), cleaned(size - 4, 4), cleaned(0, size)], [1, 1, 1]);
        assert_eq!([cleaned(size - 4, 8), cleaned(0, 4 * size), cleaned(size, 0)], [2, 4, 0]);
    }
}
