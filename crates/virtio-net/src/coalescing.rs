//! How long interrupts may wait for more to tell, as the driver has asked for (VIRTIO 1.4 §5.1.6.5,
//! «Notifications Coalescing»).

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::saved::take;

/// No interrupt waits for longer: a device may send more of them than it was asked for, and no guest is to seem
/// dead for an hour because its administrator took the unit for another one.
const MOST_DELAY: Duration = Duration::from_secs(1);

/// What may wait in one queue: as many packets, and from the first of them on for so long. As the driver has
/// said it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moderation {
    pub(crate) packets: u32,
    pub(crate) usecs: u32,
}

/// The moderation of all queues. None at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coalescing {
    receive: Moderation,
    transmit: Moderation,
    /// Of queues for which something else was said since.
    single: BTreeMap<u16, Moderation>,
}

/// Which queues a driver speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Those {
    Receive,
    Transmit,
    One(u16),
}

impl Moderation {
    /// As in `struct virtio_net_ctrl_coal`.
    pub(crate) fn from_bytes(bytes: [u8; 8]) -> Self {
        let [a, b, c, d, rest @ ..] = bytes;
        Self { packets: u32::from_le_bytes([a, b, c, d]), usecs: u32::from_le_bytes(rest) }
    }

    /// See [`Moderation::from_bytes`].
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.usecs) << 32 | u64::from(self.packets)).to_le_bytes()
    }

    /// With how many packets an interrupt does not wait any more; `None` if none does, since one of the two
    /// numbers is 0.
    pub(crate) fn until(self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.packets).filter(|_| self.usecs > 0)
    }

    /// How long an interrupt waits.
    pub(crate) fn delay(self) -> Duration {
        Duration::from_micros(self.usecs.into()).min(MOST_DELAY)
    }
}

impl Coalescing {
    /// What holds for queue `index`.
    pub(crate) fn of(&self, index: u16) -> Moderation {
        let all = if receives(index) { self.receive } else { self.transmit };
        self.single.get(&index).copied().unwrap_or(all)
    }

    /// What holds from now on for `those`: what was said last.
    pub(crate) fn set(&mut self, those: Those, moderation: Moderation) {
        match those {
            Those::Receive => {
                self.receive = moderation;
                self.single.retain(|index, _| !receives(*index));
            }
            Those::Transmit => {
                self.transmit = moderation;
                self.single.retain(|index, _| receives(*index));
            }
            Those::One(index) => {
                self.single.insert(index, moderation);
            }
        }
    }

    /// The driver has reset this queue, which will begin as all of its kind do.
    pub(crate) fn forget(&mut self, index: u16) {
        self.single.remove(&index);
    }

    /// For a snapshot: what holds for all, and how many queues differ, each with its index.
    pub(crate) fn save(&self, saved: &mut Vec<u8>) {
        let Self { receive, transmit, single } = self;
        saved.extend(receive.to_bytes());
        saved.extend(transmit.to_bytes());
        // Fewer than a card can have.
        saved.extend((single.len() as u16).to_le_bytes());
        for (index, moderation) in single {
            saved.extend(index.to_le_bytes());
            saved.extend(moderation.to_bytes());
        }
    }

    /// What [`Coalescing::save`] has put at the front of `rest`, of a card that has so many `pairs`.
    pub(crate) fn restored(rest: &mut &[u8], pairs: usize) -> Option<Self> {
        let [receive, transmit] = [take(rest)?, take(rest)?].map(Moderation::from_bytes);
        let mut single = BTreeMap::new();
        for _ in 0..u16::from_le_bytes(take(rest)?) {
            let index = u16::from_le_bytes(take(rest)?);
            let twice = single.insert(index, Moderation::from_bytes(take(rest)?));
            if usize::from(index) >= 2 * pairs || twice.is_some() {
                return None;
            }
        }
        Some(Self { receive, transmit, single })
    }
}

/// Is queue `index`, of a pair, one that receives?
fn receives(index: u16) -> bool {
    index.is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moderation(packets: u32, usecs: u32) -> Moderation {
        Moderation { packets, usecs }
    }

    /// The example of the standard, with the numbers of its commands as parameters.
    #[test]
    fn what_was_said_last_of_a_queue_holds() {
        let command = |n: u32| moderation(n, n);
        let mut all = Coalescing::default();
        let mut said = |those, n| {
            all.set(those, command(n));
            [0, 1, 2, 3].map(|index| all.of(index).packets)
        };
        assert_eq!(said(Those::Receive, 1), [1, 0, 1, 0]);
        assert_eq!(said(Those::One(0), 2), [2, 0, 1, 0]);
        assert_eq!(said(Those::One(1), 4), [2, 4, 1, 0]);
        assert_eq!(said(Those::Transmit, 5), [2, 5, 1, 5]);
        all.forget(0);
        assert_eq!([0, 1].map(|index| all.of(index).packets), [1, 5]);
    }

    #[test]
    fn without_a_number_or_a_time_nothing_waits_and_nothing_waits_for_ever() {
        assert_eq!(moderation(0, 50).until(), None);
        assert_eq!(moderation(50, 0).until(), None);
        assert_eq!(moderation(50, 7).until(), NonZeroU32::new(50));
        assert_eq!(moderation(50, 7).delay(), Duration::from_micros(7));
        assert_eq!(moderation(50, u32::MAX).delay(), MOST_DELAY);
    }

    #[test]
    fn bytes_have_packets_first() {
        let bytes = [1, 2, 0, 0, 3, 0, 0, 4];
        assert_eq!(Moderation::from_bytes(bytes), moderation(0x201, 0x400_0003));
        assert_eq!(Moderation::from_bytes(bytes).to_bytes(), bytes);
    }

    #[test]
    fn a_snapshot_has_all_and_no_queue_that_is_none_or_there_twice() {
        let mut all = Coalescing::default();
        let said = [(Those::Receive, 1), (Those::Transmit, 2), (Those::One(3), 3)];
        said.into_iter().for_each(|(those, n)| all.set(those, moderation(n, 10 * n)));
        let mut saved = vec![];
        all.save(&mut saved);
        let restored = |bytes: &[u8], pairs| Coalescing::restored(&mut &*bytes, pairs);
        assert_eq!(restored(&saved, 2), Some(all));
        assert_eq!(restored(&saved, 1), None, "there is no queue 3");
        assert_eq!(restored(&saved[..saved.len() - 1], 2), None);
        saved[16] = 2;
        let twice = [&saved[..], &saved[18..]].concat();
        assert_eq!(restored(&twice, 2), None);
    }
}
