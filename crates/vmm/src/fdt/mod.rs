//! The guest's device tree: how it learns of its hardware.
//!
//! [`Description`] is a plain list of what the machine has; [`Description::to_dtb`] writes the blob
//! that the first CPU is handed. The tree is the one of Linux' «dummy virtual machine»
//! (`linux,dummy-virt`), which kernels for many boards, 32- and 64-bit, all support.
//!
//! ```
//! use cubie_vm_irq::Spi;
//! use cubie_vmm::fdt::{Description, InterruptController, Peripheral};
//! use cubie_vmm::{Arch, layout};
//!
//! let description = Description {
//!     arch: Arch::Armv7,
//!     memory: 0x4000_0000..0x5000_0000,
//!     cpus: &[0, 1],
//!     interrupts: InterruptController::GicV2 {
//!         distributor: layout::GIC_DISTRIBUTOR,
//!         cpu_interface: layout::GIC_CPU_INTERFACE,
//!     },
//!     uart: Some(Peripheral { registers: layout::UART, spi: layout::UART_SPI }),
//!     virtio: &[Peripheral { registers: 0x0a00_0000..0x0a00_0200, spi: Spi::new(128).unwrap() }],
//!     initrd: None,
//!     bootargs: "console=hvc0",
//!     rng_seed: [7; 64], // from the host's random numbers
//!     kaslr_seed: 7,
//! };
//! let dtb = description.to_dtb()?;
//! assert_eq!(dtb[..4], 0xd00d_feedu32.to_be_bytes());
//! # Ok::<(), cubie_vmm::fdt::FdtError>(())
//! ```

mod cells;
mod nodes;
#[cfg(test)]
mod tests;

use std::ops::Range;

use cubie_vm_irq::Spi;

use crate::Arch;

/// The most CPUs that a GICv2 serves.
pub const MAX_CPUS: usize = 8;

/// What the device tree says.
pub struct Description<'a> {
    /// What the CPUs are.
    pub arch: Arch,
    /// The guest's memory.
    pub memory: Range<u64>,
    /// MPIDR affinity (Aff2, Aff1, Aff0 in the low three bytes) of each CPU, the starting one first.
    pub cpus: &'a [u32],
    /// The interrupt controller.
    pub interrupts: InterruptController,
    /// The 16550, if there is one: then it is the console until another is named.
    pub uart: Option<Peripheral>,
    /// The virtio-mmio transports, in the order in which Linux is to find them.
    pub virtio: &'a [Peripheral],
    /// Where the initrd lies.
    pub initrd: Option<Range<u64>>,
    /// The kernel's command line.
    pub bootargs: &'a str,
    /// Random numbers for the guest's pool. Fresh ones at every start and reset: Linux credits them.
    pub rng_seed: [u8; 64],
    /// A random number by which an ARM64 kernel moves itself; unused for ARMv7.
    pub kaslr_seed: u64,
}

/// A device with registers and one edge-triggered interrupt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peripheral {
    /// Guest physical addresses of its registers.
    pub registers: Range<u64>,
    /// Its interrupt.
    pub spi: Spi,
}

/// The interrupt controller and the guest physical addresses of its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InterruptController {
    /// GICv2 (ARM IHI 0048B).
    GicV2 {
        /// Distributor.
        distributor: Range<u64>,
        /// CPU interface.
        cpu_interface: Range<u64>,
    },
}

/// The description is none that a guest could start with.
#[derive(Debug, thiserror::Error)]
pub enum FdtError {
    /// The person's blame: a kernel cuts a longer one off silently.
    #[error(
        "--params: the kernel's command line has {len} bytes and an {arch} kernel takes {most}"
    )]
    CommandLine {
        /// Bytes there are.
        len: usize,
        /// Bytes there can be.
        most: usize,
        /// Whose limit that is.
        arch: Arch,
    },
    /// The person's blame: a byte that ends strings.
    #[error("--params: the kernel's command line contains a NUL")]
    CommandLineNul,
    /// The person's blame: none, or too many.
    #[error("--cpus: a guest has 1 to {MAX_CPUS} CPUs, not {0}")]
    Cpus(usize),
    /// The builder's blame: a range of addresses that ends before it begins.
    #[error("the {what} lies from {start:#x} to {end:#x}, which is before that")]
    Range {
        /// What lies there.
        what: &'static str,
        /// First address.
        start: u64,
        /// The one behind the last.
        end: u64,
    },
    /// The builder's blame: a tree has each name once, and this one comes of an affinity or an address.
    #[error("the device tree would have two nodes called {0}")]
    Twice(String),
    /// The builder's blame: something that the format cannot express.
    #[error("the device tree cannot be written: {0}")]
    Write(#[from] vm_fdt::Error),
}

impl Description<'_> {
    /// The flattened device tree (Devicetree Specification 0.4 §5). It lies within
    /// [`DTB_SPACE`](crate::layout::DTB_SPACE) with all virtio slots in use.
    ///
    /// # Errors
    /// When the command line is longer than the kernel's buffer (ARMv7 1024, ARM64 2048 bytes, NUL
    /// included), when there are no CPUs or more than [`MAX_CPUS`], when a range of addresses ends before it
    /// begins, and when two CPUs have one affinity or two transports one address.
    pub fn to_dtb(&self) -> Result<Vec<u8>, FdtError> {
        self.check()?;
        Ok(nodes::write(self)?)
    }

    fn check(&self) -> Result<(), FdtError> {
        let most = match self.arch {
            Arch::Armv7 => 1023,
            Arch::Arm64 => 2047,
        };
        let (len, arch) = (self.bootargs.len(), self.arch);
        if len > most {
            return Err(FdtError::CommandLine { len, most, arch });
        }
        if self.bootargs.contains('\0') {
            return Err(FdtError::CommandLineNul);
        }
        if !(1..=MAX_CPUS).contains(&self.cpus.len()) {
            return Err(FdtError::Cpus(self.cpus.len()));
        }
        for (what, Range { start, end }) in self.ranges() {
            let (start, end) = (*start, *end);
            if end < start {
                return Err(FdtError::Range { what, start, end });
            }
        }
        nodes::twice(self).map_or(Ok(()), |name| Err(FdtError::Twice(name)))
    }

    fn ranges(&self) -> impl Iterator<Item = (&'static str, &Range<u64>)> {
        let InterruptController::GicV2 { distributor, cpu_interface } = &self.interrupts;
        let always = [
            ("memory", &self.memory),
            ("GIC's distributor", distributor),
            ("GIC's CPU interface", cpu_interface),
        ];
        let initrd = self.initrd.iter().map(|range| ("initrd", range));
        let uart = self.uart.iter().map(|uart| ("UART", &uart.registers));
        let virtio = self.virtio.iter().map(|device| ("virtio transport", &device.registers));
        always.into_iter().chain(initrd).chain(uart).chain(virtio)
    }
}
