//! What the guest does.

use crate::guest::{AVAIL, DESC, Guest, TABLE};
use crate::script::{Descriptor, Place, Setup, Step};

/// A driver that only writes.
pub(crate) struct Driver {
    size: u16,
    /// The available index as an honest driver would have it.
    offered: u16,
}

impl Driver {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self { size: setup.params.size, offered: setup.state.next_avail }
    }

    /// Does `step`, if it is the guest's.
    pub(crate) fn step(&mut self, step: &Step, guest: &mut Guest) -> bool {
        match step {
            Step::Describe { indirect, index, descriptor } => {
                let table = if *indirect { TABLE } else { DESC };
                let bytes = split_descriptor(*descriptor);
                guest.write(table + 16 * u64::from(index % 64), &bytes);
            }
            Step::Offer(head) => {
                let slot = u64::from(self.offered % self.size);
                guest.write(AVAIL + 4 + 2 * slot, &u16::from(head % 40).to_le_bytes());
                self.jump(self.offered.wrapping_add(1), guest);
            }
            Step::Jump(by) => self.jump(self.offered.wrapping_add_signed(*by), guest),
            Step::Poke(place, value) => poke(guest, *place, *value),
            _ => return false,
        }
        true
    }

    fn jump(&mut self, index: u16, guest: &mut Guest) {
        self.offered = index;
        guest.write(AVAIL + 2, &index.to_le_bytes());
    }
}

fn split_descriptor(descriptor: Descriptor) -> [u8; 16] {
    let Descriptor { place, length, flags, link } = descriptor;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&place.address().to_le_bytes());
    bytes[8..12].copy_from_slice(&length.bytes().to_le_bytes());
    // Of the flags, three have a meaning.
    bytes[12] = flags % 8;
    bytes[14] = link % 40;
    bytes
}

pub(crate) fn poke(guest: &mut Guest, place: Place, value: u32) {
    guest.write(place.address(), &value.to_le_bytes());
}

/// The split ring's available index.
pub(crate) fn available_index(guest: &Guest, setup: &Setup) -> Option<u16> {
    guest.read16(setup.params.driver.wrapping_add(2))
}
