//! What the guest does.

use crate::guest::{AVAIL, DESC, Guest, TABLE};
use crate::script::{Descriptor, Place, Start, Step};

/// A driver that only writes.
pub(crate) enum Driver {
    /// With the available index as an honest driver would have it.
    Split { size: u16, offered: u16 },
    /// With the next position and its wrap counter.
    Packed { size: u16, next: u16, wrap: bool },
}

impl Driver {
    pub(crate) fn new(start: &Start) -> Self {
        let (size, state) = (start.params.size, start.state.next_avail);
        match start.packed {
            false => Self::Split { size, offered: state },
            true => Self::Packed { size, next: state & 0x7fff, wrap: state >> 15 == 1 },
        }
    }

    /// Does `step`, if it is the guest's.
    pub(crate) fn step(&mut self, step: &Step, guest: &mut Guest) -> bool {
        match step {
            Step::Describe { indirect, index, descriptor } => {
                let table = if *indirect { TABLE } else { DESC };
                let bytes = self.bytes(*descriptor);
                guest.write(table + 16 * u64::from(index % 64), &bytes);
            }
            Step::Offer(head) => self.offer(*head, guest),
            Step::Jump(by) => self.jump(*by, guest),
            Step::Poke(place, value) => poke(guest, *place, *value),
            _ => return false,
        }
        true
    }

    fn offer(&mut self, head: u8, guest: &mut Guest) {
        match self {
            Self::Split { size, offered } => {
                let slot = u64::from(*offered % *size);
                guest.write(AVAIL + 4 + 2 * slot, &u16::from(head % 40).to_le_bytes());
                self.jump(1, guest);
            }
            Self::Packed { size, next, wrap } => {
                let at = DESC + 16 * u64::from(*next) + 14;
                let meaning = guest.read16(at).unwrap_or(0) & !(1 << 7 | 1 << 15);
                let flags = meaning | u16::from(*wrap) << 7 | u16::from(!*wrap) << 15;
                guest.write(at, &flags.to_le_bytes());
                *next += 1;
                if *next == *size {
                    (*next, *wrap) = (0, !*wrap);
                }
            }
        }
    }

    fn jump(&mut self, by: i16, guest: &mut Guest) {
        match self {
            Self::Split { offered, .. } => {
                *offered = offered.wrapping_add_signed(by);
                guest.write(AVAIL + 2, &offered.to_le_bytes());
            }
            Self::Packed { size, next, wrap } => {
                *next = next.wrapping_add_signed(by) % *size;
                *wrap ^= by < 0;
            }
        }
    }

    fn bytes(&self, descriptor: Descriptor) -> [u8; 16] {
        let Descriptor { place, length, flags, link } = descriptor;
        // Of the flags, three have a meaning.
        let (flags, link) = (u16::from(flags % 8), u16::from(link % 42));
        let (third, fourth) = match self {
            Self::Split { .. } => (flags, link),
            Self::Packed { .. } => (link, flags),
        };
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&place.address().to_le_bytes());
        bytes[8..12].copy_from_slice(&length.bytes().to_le_bytes());
        bytes[12..14].copy_from_slice(&third.to_le_bytes());
        bytes[14..].copy_from_slice(&fourth.to_le_bytes());
        bytes
    }
}

pub(crate) fn poke(guest: &mut Guest, place: Place, value: u32) {
    guest.write(place.address(), &value.to_le_bytes());
}
