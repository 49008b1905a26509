//! What the device may take: the rings' rules of availability once more, from the guest's copy.

use cubie_virtq::QueueState;

use crate::guest::{AVAIL, DESC, Guest};
use crate::script::Start;

const NEXT: u16 = 1;
const INDIRECT: u16 = 4;

/// How far a device should have got.
pub(crate) enum Model {
    /// A ring that lies on other things, so that nothing can be foretold.
    Unknown,
    /// The next index, what the device may have read last as the available one, and the size.
    Split { next: u16, seen: Vec<u16>, size: u16 },
    /// The next position, its wrap counter, and the size.
    Packed { next: u16, wrap: bool, size: u16 },
}

impl Model {
    pub(crate) fn new(start: &Start, state: QueueState) -> Self {
        let (size, next) = (start.params.size, state.next_avail);
        match (start.well_placed, start.packed) {
            (false, _) => Self::Unknown,
            (true, false) => Self::Split { next, seen: vec![next], size },
            (true, true) => Self::Packed { next: next & 0x7fff, wrap: next >> 15 == 1, size },
        }
    }

    /// As [`QueueState::next_avail`] should be.
    pub(crate) fn next_avail(&self) -> Option<u16> {
        match self {
            Self::Unknown => None,
            Self::Split { next, .. } => Some(*next),
            Self::Packed { next, wrap, .. } => Some(next | u16::from(*wrap) << 15),
        }
    }

    /// The device has read the available index.
    pub(crate) fn look(&mut self, guest: &Guest) {
        if let Self::Split { seen, .. } = self {
            *seen = vec![available_index(guest)];
        }
    }

    /// The device may have read the available index.
    pub(crate) fn perhaps_look(&mut self, guest: &Guest) {
        if let Self::Split { seen, .. } = self {
            seen.push(available_index(guest));
        }
    }

    /// The device has taken a chain. Returns the ring entries that it came in.
    ///
    /// # Panics
    /// If none was available.
    pub(crate) fn take(&mut self, guest: &Guest) -> u16 {
        match self {
            Self::Unknown => 1,
            Self::Split { next, seen, size } => {
                let before = seen.len();
                seen.retain(|index| offered(*index, *next, *size));
                if seen.len() < before {
                    // It has come to the end of what it had read, and reads again.
                    seen.push(available_index(guest));
                }
                let there = seen.iter().any(|index| offered(*index, *next, *size));
                assert!(there, "{next} is taken and {seen:?} are available");
                *next = next.wrapping_add(1);
                1
            }
            Self::Packed { next, wrap, size } => {
                let flags = |index: u16| guest.read16(DESC + 16 * u64::from(index) + 14);
                let first = flags(*next).expect("well placed");
                assert_eq!((first >> 7 & 1 == 1, first >> 15 & 1 == 1), (*wrap, !*wrap));
                let mut entries = 1;
                let mut now = first;
                while first & INDIRECT == 0 && now & NEXT != 0 {
                    assert!(entries < *size, "longer than the ring");
                    now = flags((*next + entries) % *size).expect("well placed");
                    entries += 1;
                }
                *wrap ^= *next + entries >= *size;
                *next = (*next + entries) % *size;
                entries
            }
        }
    }

    /// The device has given back a chain of so many entries.
    pub(crate) fn give_back(&mut self, entries: u16) {
        match self {
            Self::Unknown => {}
            Self::Split { next, .. } => *next = next.wrapping_sub(1),
            Self::Packed { next, wrap, size } => {
                *wrap ^= entries > *next;
                *next = (*next + *size - entries) % *size;
            }
        }
    }
}

fn offered(index: u16, next: u16, size: u16) -> bool {
    (1..=size).contains(&index.wrapping_sub(next))
}

/// The index of a well-placed split ring.
pub(crate) fn available_index(guest: &Guest) -> u16 {
    guest.read16(AVAIL + 2).expect("well placed")
}
