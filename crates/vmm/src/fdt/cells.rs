//! Values of device-tree properties that are easily mistaken for each other.

use std::ops::Range;

use cubie_vm_irq::{Ppi, Spi};

/// How an interrupt line speaks (Linux, include/dt-bindings/interrupt-controller/irq.h).
#[derive(Clone, Copy)]
pub(super) enum Sense {
    EdgeRising = 1,
    LevelHigh = 4,
}

/// One interrupt as the GIC's binding writes it: kind, number of that kind, flags (Linux,
/// Documentation/devicetree/bindings/interrupt-controller/arm,gic.yaml).
#[derive(Clone, Copy)]
pub(super) struct InterruptCells([u32; 3]);

impl InterruptCells {
    /// How many cells it is: the controller's `#interrupt-cells`.
    pub(super) const COUNT: u32 = 3;

    pub(super) fn spi(spi: Spi, sense: Sense) -> Self {
        Self([0, spi.number(), sense as u32])
    }

    /// `cpus` is how many CPUs have that interrupt: a GICv2 is told in a mask.
    pub(super) fn ppi(ppi: Ppi, sense: Sense, cpus: usize) -> Self {
        let mask = (1u32 << cpus) - 1;
        Self([1, ppi.number(), mask << 8 | sense as u32])
    }

    pub(super) fn cells(self) -> [u32; 3] {
        self.0
    }
}

/// An address range as the root's `#address-cells` and `#size-cells` of 2 want it.
pub(super) fn reg(range: &Range<u64>) -> [u64; 2] {
    [range.start, range.end - range.start]
}
