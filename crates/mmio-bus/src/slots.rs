//! Ranges of equal size, handed out in order.

/// A row of equally large places in the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    base: u64,
    size: u64,
    count: usize,
}

impl Slots {
    /// `count` places of `size` bytes each, from address `base`.
    ///
    /// # Panics
    /// When the row leaves the 64-bit address space: the layout's author is to blame.
    pub const fn new(base: u64, size: u64, count: usize) -> Self {
        assert!(
            size.checked_mul(count as u64).is_some(),
            "the row is longer than the address space"
        );
        assert!(
            base.checked_add(size * count as u64).is_some(),
            "the row leaves the address space"
        );
        Self { base, size, count }
    }

    /// Address of place `index`, if there is one.
    pub const fn address(&self, index: usize) -> Option<u64> {
        if index < self.count { Some(self.base + self.size * index as u64) } else { None }
    }

    /// The place that an address lies in, if it lies in one.
    pub const fn index(&self, address: u64) -> Option<usize> {
        let Some(offset) = address.checked_sub(self.base) else { return None };
        let index = offset / self.size;
        if index < self.count as u64 { Some(index as usize) } else { None }
    }

    /// Bytes of one place.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// How many places there are.
    pub const fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_side_by_side_and_end() {
        let slots = Slots::new(0x0a00_0000, 0x1_0000, 2);
        assert_eq!(slots.address(0), Some(0x0a00_0000));
        assert_eq!(slots.address(1), Some(0x0a01_0000));
        assert_eq!(slots.address(2), None);
        let at = [0x09ff_ffff, 0x0a00_0000, 0x0a00_ffff, 0x0a01_0000, 0x0a02_0000];
        assert_eq!(at.map(|at| slots.index(at)), [None, Some(0), Some(0), Some(1), None]);
    }
}
