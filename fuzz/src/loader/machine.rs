//! Machines of any size, and what their memory holds.

use std::cell::RefCell;
use std::ops::Range;

use arbitrary::Arbitrary;
use cubie_vmm::layout::{DTB_SPACE, Layout, LayoutError, MIN_MEMORY, Placement, RAM_BASE};
use cubie_vmm::loader::{Kernel, load};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Bytes of memory that is really there.
const MEMORY: u64 = 64 << 20;
/// Bytes of an initrd that is really there.
const INITRD: u64 = 64 << 10;
/// Bytes looked at before and behind each part.
const MARGIN: u64 = 256;
const DTB: [u8; 777] = [0xdb; 777];
const MIB: u64 = 1 << 20;

#[derive(Arbitrary, Debug)]
pub(super) struct Machine {
    memory: Memory,
    ipa_bits: u8,
    initrd: Option<u32>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Memory {
    Mib(u8),
    Bytes(u64),
}

thread_local! {
    /// To map it anew would cost more than the run. All of it is 0.
    static POOL: RefCell<Option<GuestMemoryMmap>> = const { RefCell::new(None) };
}

impl Machine {
    /// Places the kernel, and loads it where there is memory enough. Returns how far it got.
    pub(super) fn place(&self, kernel: &Kernel) -> &'static str {
        let memory = match self.memory {
            Memory::Mib(mib) => u64::from(mib) * MIB,
            Memory::Bytes(bytes) => bytes,
        };
        let ipa_bits = 32 + u32::from(self.ipa_bits % 33);
        let layout = match Layout::new(kernel.format.arch(), memory, ipa_bits) {
            Ok(layout) => layout,
            Err(error) => {
                let fits = memory.checked_add(RAM_BASE).is_some_and(|end| end <= 1 << 32);
                let good = (MIN_MEMORY..=memory).contains(&memory) && memory.is_multiple_of(MIB);
                assert!(!(fits && good), "{error}");
                return "no-machine";
            }
        };
        let ram = RAM_BASE..RAM_BASE + memory;
        assert_eq!(*layout.ram(), ram);
        let initrd = self.initrd.map(u64::from);
        match layout.place(kernel.end, initrd) {
            Ok(placement) => {
                check(&placement, kernel, initrd, &ram);
                if memory > MEMORY || initrd.is_some_and(|bytes| bytes > INITRD) {
                    return "placed";
                }
                write(kernel, initrd.unwrap_or(0), &placement, &ram);
                if initrd.is_some() { "loaded-initrd" } else { "loaded" }
            }
            Err(LayoutError::KernelTooLarge { .. }) => {
                assert!(kernel.end.saturating_add(2 * DTB_SPACE) > ram.end, "there is room");
                "kernel-too-large"
            }
            Err(LayoutError::InitrdTooLarge { .. }) => {
                let needs = kernel.end + 2 * DTB_SPACE + initrd.unwrap_or(0);
                assert!(needs > ram.end, "there is room");
                "initrd-too-large"
            }
            Err(error) => panic!("the memory was good a moment ago: {error}"),
        }
    }
}

/// Kernel, device tree, initrd: in memory, in this order, none over another.
fn check(placement: &Placement, kernel: &Kernel, initrd: Option<u64>, ram: &Range<u64>) {
    let Placement { kernel: room, dtb, initrd: place } = placement;
    assert_eq!(*room, ram.start..kernel.end);
    assert!(dtb.start >= room.end && dtb.end - dtb.start == DTB_SPACE);
    // 8 bytes by both protocols, and within a section of an ARMv7 kernel's first mapping.
    assert!(dtb.start.is_multiple_of(8) && dtb.start >> 20 == (dtb.end - 1) >> 20);
    assert_eq!(place.as_ref().map(|place| place.end - place.start), initrd);
    let end = place.as_ref().map_or(dtb.end, |place| place.end);
    assert!(place.as_ref().is_none_or(|place| place.start >= dtb.end));
    assert!(end <= ram.end, "{placement:x?} is not in {ram:x?}");
}

/// Loads them, and compares memory with them, a little before and behind as well.
fn write(kernel: &Kernel, initrd: u64, placement: &Placement, ram: &Range<u64>) {
    let memory = POOL.take().unwrap_or_else(|| {
        let all = [(GuestAddress(RAM_BASE), MEMORY as usize)];
        GuestMemoryMmap::from_ranges(&all).expect("memory for a guest")
    });
    let initrd = vec![0x1d; initrd as usize];
    load(&memory, kernel, &initrd, &DTB, placement).expect("a placement for these parts");
    let at = placement.initrd.as_ref().map_or(ram.end, |place| place.start);
    let parts = [(kernel.load, &*kernel.image), (placement.dtb.start, &DTB), (at, &*initrd)];
    for (at, bytes) in parts {
        let len = bytes.len() as u64;
        let looked_at = at.saturating_sub(MARGIN).max(ram.start)..(at + len + MARGIN).min(ram.end);
        let mut there = vec![0; (looked_at.end - looked_at.start) as usize];
        memory.read_slice(&mut there, GuestAddress(looked_at.start)).expect("memory");
        for (other, part) in parts {
            let skip = other.saturating_sub(looked_at.start) as usize;
            let cut = looked_at.start.saturating_sub(other) as usize;
            let part = part.get(cut..).unwrap_or_default();
            let expected = there.iter_mut().skip(skip).zip(part);
            expected.for_each(|(there, byte)| {
                assert_eq!(there, byte, "at {at:#x}");
                *there = 0;
            });
        }
        assert!(there.iter().all(|byte| *byte == 0), "something else at {at:#x}");
    }
    for (at, bytes) in parts {
        memory.write_slice(&vec![0; bytes.len()], GuestAddress(at)).expect("memory");
    }
    POOL.set(Some(memory));
}
