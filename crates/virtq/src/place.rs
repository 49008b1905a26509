//! Positions in a packed ring (VIRTIO 1.4 §2.8.1).

use virtio_bindings::virtio_ring::{
    VRING_PACKED_DESC_F_AVAIL, VRING_PACKED_DESC_F_USED, VRING_PACKED_EVENT_F_WRAP_CTR,
};

use crate::ring::needs_event;

pub(crate) const AVAIL: u16 = 1 << VRING_PACKED_DESC_F_AVAIL;
pub(crate) const USED: u16 = 1 << VRING_PACKED_DESC_F_USED;
const WRAP: u16 = 1 << VRING_PACKED_EVENT_F_WRAP_CTR;

/// A place in the ring, with the wrap counter of its round in bit 15: as vhost and the event
/// suppression structures write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) u16);

impl Place {
    #[inline]
    pub(crate) fn index(self) -> u16 {
        self.0 & !WRAP
    }

    /// Itself, if a ring of `size` has it, or else another one that it has.
    pub(crate) fn within(self, size: u16) -> Self {
        let index = self.index() % size;
        Self(index | self.0 & WRAP)
    }

    #[inline]
    pub(crate) fn wrap(self) -> bool {
        self.0 & WRAP != 0
    }

    /// `entries` further on, at most `size`.
    #[inline]
    pub(crate) fn forward(self, entries: u16, size: u16) -> Self {
        let index = self.index() + entries;
        match index.checked_sub(size) {
            None => Self(index | self.0 & WRAP),
            Some(index) => Self(index | !self.0 & WRAP),
        }
    }

    /// `entries` back, at most `size`.
    pub(crate) fn back(self, entries: u16, size: u16) -> Self {
        match self.index().checked_sub(entries) {
            Some(index) => Self(index | self.0 & WRAP),
            None => Self((self.index() + size - entries) | !self.0 & WRAP),
        }
    }

    /// Is `event` among the `count` places before this one, a round at most?
    #[inline]
    pub(crate) fn has_passed(self, event: Self, count: u16, size: u16) -> bool {
        let new = self.index();
        // A place of the other round lies that much behind; one in the round to come is out of reach so.
        let behind = if event.wrap() == self.wrap() { 0 } else { size };
        needs_event(event.index().wrapping_sub(behind), new, new.wrapping_sub(count))
    }

    /// Flags of a descriptor that is available here.
    #[inline]
    pub(crate) fn available(self) -> u16 {
        if self.wrap() { AVAIL } else { USED }
    }

    /// Flags of a descriptor that is used here.
    #[inline]
    pub(crate) fn used(self) -> u16 {
        if self.wrap() { AVAIL | USED } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_round_and_back_in_rings_of_any_size() {
        for size in [1, 2, 3, 7, 32767, 32768] {
            for index in [0, size / 2, size - 1] {
                for entries in [0, 1, size / 2, size] {
                    let place = Place(index | WRAP);
                    let there = place.forward(entries, size);
                    let wide = u32::from(index) + u32::from(entries);
                    assert_eq!(u32::from(there.index()), wide % u32::from(size));
                    assert_eq!(there.wrap(), wide < u32::from(size));
                    assert_eq!(there.back(entries, size), place, "{index} {entries} of {size}");
                }
            }
        }
    }
}
