//! Guest addresses that are free.

use std::ops::Range;

/// Hands out addresses, the lowest that fits.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Sorted; no two overlap or touch.
    free: Vec<Range<u64>>,
}

impl Pool {
    pub(crate) fn new(range: Range<u64>) -> Self {
        Self { free: vec![range] }
    }

    /// Takes `len` bytes at a multiple of `align`; `None` when there is no such piece.
    pub(crate) fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        let fits = |range: &Range<u64>| {
            let start = range.start.next_multiple_of(align);
            (start + len <= range.end).then_some(start)
        };
        let mut found = self.free.iter().enumerate();
        let (at, start) = found.find_map(|(at, range)| Some((at, fits(range)?)))?;
        let old = self.free[at].clone();
        let rest = [old.start..start, start + len..old.end];
        self.free.splice(at..=at, rest.into_iter().filter(|range| !range.is_empty()));
        Some(start)
    }

    /// Takes `range` back.
    ///
    /// # Panics
    /// When some of it is free already: a driver has freed it twice.
    pub(crate) fn give(&mut self, range: Range<u64>) {
        let overlaps = |free: &Range<u64>| free.start < range.end && range.start < free.end;
        let twice = self.free.iter().any(overlaps);
        assert!(!twice, "{range:#x?} was freed twice");
        self.free.push(range);
        self.free.sort_by_key(|free| free.start);
        self.free.dedup_by(|next, this| {
            let touch = this.end == next.start;
            if touch {
                this.end = next.end;
            }
            touch
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_in_any_order_is_whole_again() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1]] {
            let mut pool = Pool::new(0x10..0x40);
            let pieces = [(); 3].map(|()| pool.take(0x10, 1).unwrap());
            assert_eq!((pieces, pool.take(1, 1)), ([0x10, 0x20, 0x30], None));
            for at in order {
                pool.give(pieces[at]..pieces[at] + 0x10);
            }
            assert_eq!(pool.take(0x30, 1), Some(0x10));
        }
    }

    #[test]
    fn aligned_pieces_leave_what_is_before_them() {
        let mut pool = Pool::new(0x10..0x2000);
        assert_eq!(pool.take(0x100, 0x1000), Some(0x1000));
        assert_eq!(pool.free, [0x10..0x1000, 0x1100..0x2000]);
    }

    #[test]
    #[should_panic(expected = "freed twice")]
    fn a_piece_freed_twice_is_found() {
        let mut pool = Pool::new(0..0x40);
        pool.take(0x20, 1).unwrap();
        pool.give(0..0x10);
        pool.give(0x8..0x18);
    }
}
