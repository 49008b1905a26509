//! What is varied.

use std::fmt;

use crate::image::Place;

/// Most requests in flight.
pub(crate) const MOST_DEPTH: usize = 128;
/// Most bytes in flight.
pub(crate) const MOST_BYTES: usize = 4 << 20;

const SHORT: usize = 4 << 10;
const LONG: usize = 128 << 10;

/// One combination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) place: Place,
    pub(crate) writes: bool,
    /// Bytes of a request. Short ones go anywhere, long ones one behind the other.
    pub(crate) size: usize,
    /// Requests in flight.
    pub(crate) depth: usize,
    /// The driver looks instead of being called.
    pub(crate) polls: bool,
}

impl Case {
    /// All that is measured there.
    pub(crate) fn all_on(place: Place) -> Vec<Self> {
        let both = |size, depth| {
            [false, true].map(|writes| Self { place, writes, size, depth, polls: false })
        };
        match place {
            Place::Memory => {
                let short = [1, 32, MOST_DEPTH].map(|depth| both(SHORT, depth)).concat();
                let polled = [1, 32].map(|depth| Self { polls: true, ..both(SHORT, depth)[0] });
                [&short[..], &polled, &both(LONG, MOST_BYTES / LONG)].concat()
            }
            Place::Disk => both(SHORT, 32).to_vec(),
        }
    }

    pub(crate) fn is_sequential(&self) -> bool {
        self.size == LONG
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, size, depth, .. } = self;
        let order = if self.is_sequential() { "sequential" } else { "random" };
        let what = if self.writes { "write" } else { "read" };
        write!(f, "{place}: {} KiB {order} {what}, depth {depth}", size >> 10)?;
        if self.polls { write!(f, ", polling") } else { Ok(()) }
    }
}
