//! Writing kernel, initrd and device tree into guest memory.

use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::Kernel;
use crate::layout::Placement;

/// The builder's blame: the placement is not one for these parts in this memory.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A part has another size than the room that was made for it.
    #[error("the {what} has {len} bytes and {room} bytes of guest memory were set aside for it")]
    Room {
        /// Which part.
        what: &'static str,
        /// Bytes of the part.
        len: u64,
        /// Bytes that were set aside.
        room: u64,
    },
    /// No guest memory there.
    #[error("the {what} cannot be written to guest memory at {address:#x}: {source}")]
    Memory {
        /// Which part.
        what: &'static str,
        /// Guest physical address of its first byte.
        address: u64,
        /// Why not.
        source: GuestMemoryError,
    },
}

/// Writes `kernel`, `initrd` (empty where there is none) and `dtb` into `memory` where `placement` says.
///
/// Memory that none of them covers stays as it is: at a reset the caller may clear it first.
///
/// # Errors
/// When the placement was made for other sizes, or `memory` is smaller than the layout it came from.
pub fn load(
    memory: &GuestMemoryMmap,
    kernel: &Kernel,
    initrd: &[u8],
    dtb: &[u8],
    placement: &Placement,
) -> Result<(), LoadError> {
    let no_initrd = 0..0;
    let initrd_range = placement.initrd.as_ref().unwrap_or(&no_initrd);
    let kernel_range = kernel.load..placement.kernel.end;
    for (what, bytes, range) in [
        ("kernel", kernel.image.as_slice(), &kernel_range),
        ("initrd", initrd, initrd_range),
        ("device tree", dtb, &placement.dtb),
    ] {
        let (len, room) = (bytes.len() as u64, range.end.saturating_sub(range.start));
        if len > room {
            return Err(LoadError::Room { what, len, room });
        }
        let address = range.start;
        memory.write_slice(bytes, GuestAddress(address)).map_err(|source| LoadError::Memory {
            what,
            address,
            source,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::raw_image;
    use super::*;
    use crate::Arch;
    use crate::layout::{Layout, MIN_MEMORY, RAM_BASE};

    const INITRD: &[u8] = b"070701";
    const DTB: &[u8] = b"\xd0\x0d\xfe\xed";

    fn kernel() -> Kernel {
        Kernel::from_bytes(raw_image(0xe248_8982, 100), Arch::Armv7).unwrap()
    }

    fn placement(initrd: Option<u64>) -> Placement {
        let layout = Layout::new(Arch::Armv7, MIN_MEMORY, 40).unwrap();
        layout.place(kernel().end, initrd).unwrap()
    }

    fn memory(size: u64) -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(RAM_BASE), size as usize)]).unwrap()
    }

    fn read(memory: &GuestMemoryMmap, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    #[test]
    fn each_part_is_where_the_placement_says() {
        let (kernel, memory) = (kernel(), memory(MIN_MEMORY));
        let place = placement(Some(INITRD.len() as u64));
        load(&memory, &kernel, INITRD, DTB, &place).unwrap();
        assert_eq!(read(&memory, kernel.load, kernel.image.len()), kernel.image);
        assert_eq!(read(&memory, place.dtb.start, DTB.len()), DTB);
        let initrd = place.initrd.unwrap();
        assert_eq!(read(&memory, initrd.start, INITRD.len()), INITRD);
    }

    #[test]
    fn a_part_larger_than_its_room_is_refused() {
        let (kernel, memory) = (kernel(), memory(MIN_MEMORY));
        let error = load(&memory, &kernel, INITRD, DTB, &placement(None)).unwrap_err();
        assert!(matches!(error, LoadError::Room { what: "initrd", len: 6, room: 0 }));
        let large = vec![0; 0x1_0001];
        let error = load(&memory, &kernel, &[], &large, &placement(None)).unwrap_err();
        assert!(matches!(error, LoadError::Room { what: "device tree", .. }));
    }

    #[test]
    fn memory_that_is_not_there_is_named() {
        let error = load(&memory(0x10_0000), &kernel(), &[], DTB, &placement(None)).unwrap_err();
        let start = "the kernel cannot be written to guest memory at 0x40208000: ";
        assert!(error.to_string().starts_with(start), "{error}");
    }
}
