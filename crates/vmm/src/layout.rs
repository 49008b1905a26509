//! Where everything is in the guest's address space.
//!
//! The map is that of the CubieTruck's Allwinner A20, so that what is known about the board holds
//! for the guest; the virtio slots lie in a hole of it.
//!
//! ```text
//! 0x01c2_8000  UART 0               16550, 32-bit registers   SPI 1
//! 0x01c8_1000  GIC distributor
//! 0x01c8_2000  GIC CPU interface
//! 0x0a00_0000  virtio slots 0–31    64 KiB each               SPI 128–159
//! 0x4000_0000  RAM                  kernel, device tree, initrd, in this order
//! ```
//!
//! Devices have fixed places: the constants here. What depends on the guest is a value: [`Layout`]
//! checks the size of the memory and [`Layout::place`] finds room for what the loader brings.

use std::ops::Range;

use cubie_mmio_bus::Slots;
use cubie_vm_irq::{Ppi, Spi};

use crate::Arch;

#[cfg(test)]
mod tests;

/// First address of the guest's memory.
pub const RAM_BASE: u64 = 0x4000_0000;

/// The least memory a guest can have, in bytes.
pub const MIN_MEMORY: u64 = 32 * MIB;

/// Registers of the 16550 UART (A20 UART 0).
pub const UART: Range<u64> = 0x01c2_8000..0x01c2_8400;

/// Interrupt of the UART, the board's own.
pub const UART_SPI: Spi = Spi::new(1).unwrap();

/// Registers of the GICv2's distributor.
pub const GIC_DISTRIBUTOR: Range<u64> = 0x01c8_1000..0x01c8_2000;

/// Registers of the GICv2's CPU interface.
pub const GIC_CPU_INTERFACE: Range<u64> = 0x01c8_2000..0x01c8_4000;

/// Places of the virtio devices; 64 KiB each, since a device has its own page of the host's and a
/// host's page may be that large.
pub const VIRTIO: Slots = Slots::new(0x0a00_0000, 0x1_0000, 32);

/// Secure, non-secure, virtual and hypervisor timer, in the order of the device tree's binding.
pub const TIMER_PPIS: [Ppi; 4] =
    [Ppi::new(13).unwrap(), Ppi::new(14).unwrap(), Ppi::new(11).unwrap(), Ppi::new(10).unwrap()];

/// Bytes that the device tree may have. It lies on a multiple of this, so that it never leaves the
/// section that an ARMv7 kernel maps to read it, and is aligned as both boot protocols want.
pub const DTB_SPACE: u64 = 0x1_0000;

const MIB: u64 = 1 << 20;

/// First SPI of the virtio slots: beyond those that the A20 uses.
const VIRTIO_SPI: u32 = 128;

/// Interrupt of virtio slot `slot`; `None` where [`VIRTIO`] has no such slot.
pub const fn virtio_spi(slot: usize) -> Option<Spi> {
    if slot < VIRTIO.count() { Spi::new(VIRTIO_SPI + slot as u32) } else { None }
}

/// A guest's memory, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    arch: Arch,
    ram: Range<u64>,
}

/// Where the loader's three parts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// From the start of memory to the end of what the kernel needs before it knows its memory:
    /// page tables below the image, the image, its bss.
    pub kernel: Range<u64>,
    /// Room for the device tree: [`DTB_SPACE`] bytes.
    pub dtb: Range<u64>,
    /// The initrd, to the byte.
    pub initrd: Option<Range<u64>>,
}

/// The person's blame: what they gave does not fit. Sizes are in bytes; people read MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Less than [`MIN_MEMORY`].
    #[error("--mem: {} MiB is too little, a guest needs at least {} MiB", mib(*.memory), mib(MIN_MEMORY))]
    MemoryTooSmall {
        /// Bytes asked for.
        memory: u64,
    },
    /// Beyond what an ARMv7 guest addresses without tricks.
    #[error(
        "--mem: {} MiB is too much, an ARMv7 guest's memory lies between 1 GiB and 4 GiB: \
         give at most {} MiB, or --arch arm64",
        mib(*.memory), mib(*.most)
    )]
    BeyondArmv7 {
        /// Bytes asked for.
        memory: u64,
        /// Bytes there can be.
        most: u64,
    },
    /// Beyond the guest physical addresses that the hypervisor offers.
    #[error(
        "--mem: {} MiB is too much, this host gives guests {ipa_bits}-bit addresses: give at most {} MiB",
        mib(*.memory), mib(*.most)
    )]
    BeyondIpa {
        /// Bytes asked for.
        memory: u64,
        /// Bytes there can be.
        most: u64,
        /// Bits of a guest physical address.
        ipa_bits: u32,
    },
    /// Not a whole number of MiB.
    #[error("--mem: {memory} bytes are not a whole number of MiB")]
    UnevenMemory {
        /// Bytes asked for.
        memory: u64,
    },
    /// Kernel and device tree alone do not fit.
    #[error("--kernel: this kernel needs {} MiB to start and the guest has {}: raise --mem", mib(*.needs), mib(*.memory))]
    KernelTooLarge {
        /// Bytes from the start of memory to the end of the device tree.
        needs: u64,
        /// Bytes of memory.
        memory: u64,
    },
    /// No room for the initrd above the kernel.
    #[error(
        "--initrd: its {} MiB do not fit, the guest's memory of {} MiB has {} left beside the kernel: raise --mem",
        mib(*.initrd), mib(*.memory), .free / MIB
    )]
    InitrdTooLarge {
        /// Bytes of the initrd.
        initrd: u64,
        /// Bytes above kernel and device tree.
        free: u64,
        /// Bytes of memory.
        memory: u64,
    },
}

/// Rounds up, so that no size reads as 0 and none as smaller than it is.
const fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(MIB)
}

impl Layout {
    /// A guest with `memory` bytes on a hypervisor whose guest physical addresses have `ipa_bits` bits.
    ///
    /// # Errors
    /// When the memory is under 32 MiB, not a whole number of MiB, or more than the architecture
    /// (ARMv7: 3 GiB, up to the end of 32-bit addresses) or the hypervisor can address.
    pub fn new(arch: Arch, memory: u64, ipa_bits: u32) -> Result<Self, LayoutError> {
        let ipa_end = 1u64.checked_shl(ipa_bits).unwrap_or(u64::MAX);
        let ipa_most = ipa_end.saturating_sub(RAM_BASE);
        let armv7_most = (1 << 32) - RAM_BASE;
        if memory < MIN_MEMORY {
            return Err(LayoutError::MemoryTooSmall { memory });
        }
        if arch == Arch::Armv7 && memory > armv7_most {
            let most = armv7_most;
            return Err(LayoutError::BeyondArmv7 { memory, most });
        }
        if memory > ipa_most {
            let most = ipa_most;
            return Err(LayoutError::BeyondIpa { memory, most, ipa_bits });
        }
        if !memory.is_multiple_of(MIB) {
            return Err(LayoutError::UnevenMemory { memory });
        }
        let ram = RAM_BASE..RAM_BASE + memory;
        Ok(Self { arch, ram })
    }

    /// What the guest's CPUs run.
    pub const fn arch(&self) -> Arch {
        self.arch
    }

    /// The guest's memory, in one piece.
    pub const fn ram(&self) -> &Range<u64> {
        &self.ram
    }

    /// Bytes of memory.
    pub const fn memory(&self) -> u64 {
        self.ram.end - self.ram.start
    }

    /// Finds room above a kernel that needs the memory up to `kernel_end` (the loader's
    /// [`Kernel::end`](crate::loader::Kernel::end)) for the device tree and an initrd of so many bytes.
    ///
    /// Both boot protocols are content with that: the parts lie as low as they can, inside the low
    /// memory of an ARMv7 kernel and near an ARM64 one (Linux, Documentation/arch/arm/booting.rst and
    /// arch/arm64/booting.rst).
    ///
    /// # Errors
    /// When the memory ends too early.
    pub fn place(&self, kernel_end: u64, initrd: Option<u64>) -> Result<Placement, LayoutError> {
        let memory = self.memory();
        let dtb = kernel_end
            .checked_next_multiple_of(DTB_SPACE)
            .and_then(|start| Some(start..start.checked_add(DTB_SPACE)?))
            .unwrap_or(u64::MAX..u64::MAX);
        if dtb.end > self.ram.end {
            let needs = dtb.end - self.ram.start;
            return Err(LayoutError::KernelTooLarge { needs, memory });
        }
        let free = self.ram.end - dtb.end;
        let initrd = match initrd {
            Some(initrd) if initrd > free => {
                return Err(LayoutError::InitrdTooLarge { initrd, free, memory });
            }
            size => size.map(|size| dtb.end..dtb.end + size),
        };
        Ok(Placement { kernel: self.ram.start..kernel_end, dtb, initrd })
    }
}
