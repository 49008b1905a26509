//! The four names of an interrupt on ARM.

use std::fmt;

/// Number of an interrupt as the GIC's registers count: 0–15 SGI, 16–31 PPI, 32–1019 SPI
/// (ARM IHI 0048B §2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntId(u32);

/// Shared peripheral interrupt, counted from 0: the wire of a device, deliverable to any CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spi(u32);

/// Private peripheral interrupt, counted from 0: one wire a CPU, such as its timer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ppi(u32);

/// Number in KVM's interrupt routing table, as `KVM_IRQFD` takes it (KVM API 4.75).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gsi(u32);

impl IntId {
    /// The bare number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl Spi {
    /// How many there are: INTID 32 to 1019.
    pub const COUNT: u32 = 988;

    /// SPI `number`, counted from 0; `None` from [`Spi::COUNT`] on.
    pub const fn new(number: u32) -> Option<Self> {
        if number < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// The number counted from 0, as device trees write it.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The number in the GIC's registers.
    pub const fn intid(self) -> IntId {
        IntId(32 + self.0)
    }

    /// The number in KVM's default routing on ARM, where pin n of the irqchip is SPI n.
    pub const fn gsi(self) -> Gsi {
        Gsi(self.0)
    }
}

impl Ppi {
    /// PPI `number`, counted from 0; `None` from 16 on.
    pub const fn new(number: u32) -> Option<Self> {
        if number < 16 { Some(Self(number)) } else { None }
    }

    /// The number counted from 0, as device trees write it.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The number in the GIC's registers.
    pub const fn intid(self) -> IntId {
        IntId(16 + self.0)
    }
}

impl Gsi {
    /// The bare number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SPI {}", self.0)
    }
}

impl fmt::Display for Ppi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PPI {}", self.0)
    }
}

impl fmt::Display for IntId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "INTID {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spis_end_at_intid_1019() {
        assert_eq!(Spi::new(987).unwrap().intid().number(), 1019);
        assert_eq!(Spi::new(988), None);
    }

    #[test]
    fn ppis_lie_between_sgis_and_spis() {
        assert_eq!(Ppi::new(0).unwrap().intid().number(), 16);
        assert_eq!(Ppi::new(15).unwrap().intid().number(), 31);
        assert_eq!(Ppi::new(16), None);
    }

    #[test]
    fn kvm_routes_by_spi_and_not_by_intid() {
        assert_eq!(Spi::new(5).unwrap().gsi().number(), 5);
    }
}
