//! Which received frames the driver wants (VIRTIO 1.4 §5.1.6.5.1 to §5.1.6.5.3).

use cubie_virtio_core::Features;

use crate::Mac;
use crate::protocol::{CTRL_RX, CTRL_VLAN, RxMode};
use crate::saved::take;

/// Bytes at the front of a frame that tell whether it is wanted: both addresses, and a VLAN tag.
pub(crate) const HEAD: usize = 16;

/// The bit of an address of several cards.
const GROUP: u8 = 1;
const BROADCAST: [u8; 6] = [0xff; 6];
/// What says that a VLAN tag follows (IEEE 802.1Q).
const TAGGED: [u8; 2] = [0x81, 0x00];
/// VLANs that there can be.
const VLANS: usize = 1 << 12;

/// What the driver wants to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The card's address, as the driver has set it.
    pub(crate) mac: Mac,
    /// The driver filters addresses; if not, all are welcome.
    addresses: bool,
    /// By [`RxMode`].
    modes: u8,
    /// Addresses beside the card's own, in order.
    unicast: Vec<[u8; 6]>,
    multicast: Vec<[u8; 6]>,
    /// A bit a VLAN, for a driver that filters them.
    vlans: Option<Box<[u64; VLANS / 64]>>,
}

impl Filter {
    /// What a driver wants that has negotiated `features`, and said nothing yet.
    pub(crate) fn new(mac: Mac, features: Features) -> Self {
        Self {
            mac,
            addresses: features.has(CTRL_RX),
            modes: 0,
            unicast: vec![],
            multicast: vec![],
            vlans: features.has(CTRL_VLAN).then(|| Box::new([0; VLANS / 64])),
        }
    }

    /// Turns a mode on or off.
    pub(crate) fn set_mode(&mut self, mode: RxMode, on: bool) {
        let bit = 1 << mode as u8;
        self.modes = if on { self.modes | bit } else { self.modes & !bit };
    }

    /// These addresses are welcome beside the card's own, and no others.
    pub(crate) fn set_tables(&mut self, mut unicast: Vec<[u8; 6]>, mut multicast: Vec<[u8; 6]>) {
        unicast.sort_unstable();
        multicast.sort_unstable();
        (self.unicast, self.multicast) = (unicast, multicast);
    }

    /// Frames of VLAN `id`, less than 4096, are welcome, or no longer.
    pub(crate) fn set_vlan(&mut self, id: u16, welcome: bool) {
        if let Some(word) = self.vlans.as_mut().and_then(|all| all.get_mut(usize::from(id) / 64)) {
            let bit = 1 << (id % 64);
            *word = if welcome { *word | bit } else { *word & !bit };
        }
    }

    /// Whether it lets everything pass, so that no frame has to be looked at.
    pub(crate) fn is_open(&self) -> bool {
        self.has(RxMode::Promiscuous) || !self.addresses && self.vlans.is_none()
    }

    /// Whether the driver wants the frame that begins with `head`.
    pub(crate) fn wants(&self, head: &[u8; HEAD]) -> bool {
        self.is_open() || self.wants_vlan(head) && self.wants_address(head)
    }

    fn wants_vlan(&self, head: &[u8; HEAD]) -> bool {
        let Some(vlans) = self.vlans.as_ref().filter(|_| head[12..14] == TAGGED) else {
            return true;
        };
        let id = usize::from(u16::from_be_bytes([head[14], head[15]])) % VLANS;
        vlans[id / 64] >> (id % 64) & 1 != 0
    }

    fn wants_address(&self, head: &[u8; HEAD]) -> bool {
        let Some(to) = head.first_chunk::<6>().filter(|_| self.addresses) else {
            return true;
        };
        let is_in = |table: &[[u8; 6]]| table.binary_search(to).is_ok();
        if *to == BROADCAST {
            !self.has(RxMode::NoBroadcast)
        } else if to[0] & GROUP != 0 {
            !self.has(RxMode::NoMulticast)
                && (self.has(RxMode::AllMulticast) || is_in(&self.multicast))
        } else {
            !self.has(RxMode::NoUnicast)
                && (self.has(RxMode::AllUnicast) || *to == self.mac.bytes() || is_in(&self.unicast))
        }
    }

    /// For a snapshot: the address, whether addresses count, the modes, both tables with their lengths before
    /// them, and whether there is a table of VLANs, with it.
    pub(crate) fn save(&self, saved: &mut Vec<u8>) {
        let Self { mac, addresses, modes, unicast, multicast, vlans } = self;
        saved.extend(mac.bytes());
        saved.extend([u8::from(*addresses), *modes]);
        for table in [unicast, multicast] {
            saved.extend((table.len() as u16).to_le_bytes());
            saved.extend(table.as_flattened());
        }
        saved.push(vlans.is_some().into());
        saved.extend(
            vlans.iter().flat_map(|vlans| vlans.iter()).flat_map(|word| word.to_le_bytes()),
        );
    }

    /// What [`Filter::save`] has put at the front of `rest`.
    pub(crate) fn restored(rest: &mut &[u8]) -> Option<Self> {
        let mac = Mac::from_bytes(take(rest)?).ok()?;
        let [addresses, modes] = take(rest)?;
        let [unicast, multicast] = [table(rest)?, table(rest)?];
        let [has_vlans] = take(rest)?;
        let vlans = match has_vlans {
            0 => None,
            _ => {
                let mut vlans = Box::new([0; VLANS / 64]);
                for word in vlans.iter_mut() {
                    *word = u64::from_le_bytes(take(rest)?);
                }
                Some(vlans)
            }
        };
        let mut filter = Self {
            mac,
            addresses: addresses != 0,
            modes,
            vlans,
            unicast: vec![],
            multicast: vec![],
        };
        filter.set_tables(unicast, multicast);
        Some(filter)
    }

    fn has(&self, mode: RxMode) -> bool {
        self.modes >> mode as u8 & 1 != 0
    }
}

/// A table of addresses with its length before it. No longer than `rest`, whatever that says.
fn table(rest: &mut &[u8]) -> Option<Vec<[u8; 6]>> {
    (0..u16::from_le_bytes(take(rest)?)).map(|_| take(rest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const GROUPS: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];

    fn filter(features: Features) -> Filter {
        Filter::new("02:00:00:00:00:01".parse().unwrap(), features)
    }

    fn head(to: [u8; 6], tag: Option<u16>) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..6].copy_from_slice(&to);
        if let Some(tag) = tag {
            head[12..14].copy_from_slice(&TAGGED);
            head[14..].copy_from_slice(&tag.to_be_bytes());
        }
        head
    }

    /// Whether frames to the card, to another one, to a group and to all are wanted.
    fn wanted(filter: &Filter) -> [bool; 4] {
        [OURS, OTHER, GROUPS, BROADCAST].map(|to| filter.wants(&head(to, None)))
    }

    #[test]
    fn without_filters_everything_passes() {
        let filter = filter(Features::default());
        assert!(filter.is_open() && filter.wants(&head(OTHER, Some(9))));
        assert_eq!(wanted(&filter), [true; 4]);
    }

    #[test]
    fn a_card_wants_its_own_frames_and_those_to_all() {
        let mut filter = filter(CTRL_RX);
        assert!(!filter.is_open());
        assert_eq!(wanted(&filter), [true, false, false, true]);
        filter.set_tables(vec![OTHER], vec![]);
        assert_eq!(wanted(&filter), [true, true, false, true]);
        filter.set_tables(vec![], vec![[0xff, 0, 0, 0, 0, 0], GROUPS, [3; 6]]);
        assert_eq!(wanted(&filter), [true, false, true, true]);
        filter.mac = "02:00:00:00:00:02".parse().unwrap();
        assert_eq!(wanted(&filter), [false, true, true, true]);
    }

    #[test]
    fn modes_open_the_filter_and_close_it() {
        use RxMode::*;
        for (modes, expected) in [
            (&[AllMulticast][..], [true, false, true, true]),
            (&[AllUnicast], [true, true, false, true]),
            (&[NoBroadcast, AllMulticast], [true, false, true, false]),
            (&[NoMulticast, AllMulticast], [true, false, false, true]),
            (&[NoUnicast, AllUnicast], [false, false, false, true]),
            (&[NoUnicast, NoMulticast, NoBroadcast], [false; 4]),
            (&[Promiscuous, NoUnicast, NoMulticast, NoBroadcast], [true; 4]),
        ] {
            let mut filter = filter(CTRL_RX);
            modes.iter().for_each(|mode| filter.set_mode(*mode, true));
            assert_eq!(wanted(&filter), expected, "{modes:?}");
            modes.iter().for_each(|mode| filter.set_mode(*mode, false));
            assert_eq!(wanted(&filter), [true, false, false, true], "{modes:?}");
        }
    }

    #[test]
    fn tagged_frames_pass_when_their_vlan_is_in_the_table() {
        let mut filter = filter(CTRL_VLAN);
        for id in [0, 1, 63, 64, 4095] {
            // The priority is not looked at.
            let tagged = head(OTHER, Some(id | 0xe000));
            assert!(!filter.wants(&tagged));
            filter.set_vlan(id, true);
            assert!(filter.wants(&tagged));
            assert!(!filter.wants(&head(OTHER, Some(id ^ 2))));
            filter.set_vlan(id, false);
            assert!(!filter.wants(&tagged));
        }
        assert_eq!(wanted(&filter), [true; 4], "without a tag");
        filter.set_mode(RxMode::Promiscuous, true);
        assert!(filter.wants(&head(OTHER, Some(7))));
    }
}
