//! Stores of the scripted guest that wait for the next exit.

use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Mutex;

use super::lock;

/// Where stores may be delayed, and those that are.
#[derive(Default)]
pub(super) struct Delayed {
    ranges: Mutex<Vec<Range<u64>>>,
    /// Held while they are carried out, so that no exit overtakes them.
    stores: Mutex<Vec<(u64, Vec<u8>)>>,
}

impl Delayed {
    /// From now on stores into the `len` bytes at `address` are delayed.
    pub(super) fn cover(&self, address: u64, len: u64) -> Result<(), ErrorKind> {
        let end = address.checked_add(len).filter(|end| *end > address);
        lock(&self.ranges).push(address..end.ok_or(ErrorKind::InvalidInput)?);
        Ok(())
    }

    /// Keeps the store if all of it may be delayed; returns whether it did.
    pub(super) fn keep(&self, address: u64, data: &[u8]) -> bool {
        let Some(end) = address.checked_add(data.len() as u64) else { return false };
        let covers = |range: &Range<u64>| range.start <= address && end <= range.end;
        let kept = lock(&self.ranges).iter().any(covers);
        if kept {
            lock(&self.stores).push((address, data.to_vec()));
        }
        kept
    }

    /// Hands out all that were kept.
    pub(super) fn carry_out(&self, late: &mut dyn FnMut(u64, &[u8])) {
        for (address, data) in lock(&self.stores).drain(..) {
            late(address, &data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_leaves_the_range_is_not_kept() {
        let delayed = Delayed::default();
        delayed.cover(0x1020, 8).unwrap();
        let kept = [0x101c, 0x1020, 0x1024, 0x1026, 0x1028].map(|at| delayed.keep(at, &[0; 4]));
        assert_eq!(kept, [false, true, true, false, false]);
        assert!(!delayed.keep(u64::MAX, &[0; 4]));
    }

    #[test]
    fn a_range_has_bytes_and_does_not_wrap() {
        let delayed = Delayed::default();
        assert_eq!(delayed.cover(0x1000, 0), Err(ErrorKind::InvalidInput));
        assert_eq!(delayed.cover(u64::MAX, 2), Err(ErrorKind::InvalidInput));
    }
}
