//! Commands of the control queue (VIRTIO 1.4 §5.1.6.5).

use cubie_virtio_core::Features;
use virtio_bindings::virtio_net::*;

use crate::Mac;
use crate::coalescing::{Moderation, Those};

/// Bytes of the longest command that is understood.
pub(crate) const MOST_COMMAND: usize = 8192;

/// What a driver asks the card to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Turn a mode of reception on or off (§5.1.6.5.1).
    Receive(RxMode, bool),
    /// Receive frames to these addresses, too: cards, and groups (§5.1.6.5.2).
    Addresses(Vec<[u8; 6]>, Vec<[u8; 6]>),
    /// Have this address (§5.1.6.5.2).
    Address(Mac),
    /// Receive frames of this VLAN, or do so no longer (§5.1.6.5.3).
    Vlan(u16, bool),
    /// The driver has announced itself (§5.1.6.5.4).
    Announced,
    /// Use this many pairs of queues (§5.1.6.5.5).
    Pairs(u16),
    /// Leave no more than this to the driver (§5.1.6.5.6.1).
    GuestOffloads(Features),
    /// Have interrupts of these queues wait (§5.1.6.5, «Notifications Coalescing»).
    Coalesce(Those, Moderation),
    /// Say how those of this queue wait.
    Coalescing(u16),
}

/// A mode of reception, by its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RxMode {
    /// All frames.
    Promiscuous = VIRTIO_NET_CTRL_RX_PROMISC as u8,
    /// All frames to groups.
    AllMulticast = VIRTIO_NET_CTRL_RX_ALLMULTI as u8,
    /// All frames to a card.
    AllUnicast = VIRTIO_NET_CTRL_RX_ALLUNI as u8,
    /// No frames to groups.
    NoMulticast = VIRTIO_NET_CTRL_RX_NOMULTI as u8,
    /// No frames to a card.
    NoUnicast = VIRTIO_NET_CTRL_RX_NOUNI as u8,
    /// No frames to all.
    NoBroadcast = VIRTIO_NET_CTRL_RX_NOBCAST as u8,
}

impl RxMode {
    fn from_command(command: u8) -> Option<Self> {
        use RxMode::*;
        [Promiscuous, AllMulticast, AllUnicast, NoMulticast, NoUnicast, NoBroadcast]
            .into_iter()
            .find(|mode| *mode as u8 == command)
    }
}

/// The answer to a command (§5.1.6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Ack {
    Ok = VIRTIO_NET_OK as u8,
    Err = VIRTIO_NET_ERR as u8,
}

impl Command {
    /// Reads all that the driver has to say: class, command, and what belongs to it. `None` if that is no
    /// command, or not all of one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([class, command], data) = bytes.split_first_chunk()?;
        match (u32::from(*class), u32::from(*command)) {
            (VIRTIO_NET_CTRL_RX, _) => {
                let on = match data {
                    [0] => false,
                    [1] => true,
                    _ => return None,
                };
                Some(Self::Receive(RxMode::from_command(*command)?, on))
            }
            (VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET) => {
                let (cards, data) = table(data)?;
                let (groups, rest) = table(data)?;
                rest.is_empty().then_some(Self::Addresses(cards, groups))
            }
            (VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET) => {
                Some(Self::Address(Mac::from_bytes(data.try_into().ok()?).ok()?))
            }
            (VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD | VIRTIO_NET_CTRL_VLAN_DEL) => {
                let id = u16::from_le_bytes(data.try_into().ok()?);
                let add = u32::from(*command) == VIRTIO_NET_CTRL_VLAN_ADD;
                (id < 4096).then_some(Self::Vlan(id, add))
            }
            (VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK) => {
                data.is_empty().then_some(Self::Announced)
            }
            (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) => {
                Some(Self::Pairs(u16::from_le_bytes(data.try_into().ok()?)))
            }
            (VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET) => {
                Some(Self::GuestOffloads(Features(u64::from_le_bytes(data.try_into().ok()?))))
            }
            (VIRTIO_NET_CTRL_NOTF_COAL, command) => coalescing(command, data),
            _ => None,
        }
    }
}

/// A command of the class about interrupts that wait.
fn coalescing(command: u32, data: &[u8]) -> Option<Command> {
    let moderation = |data: &[u8]| Some(Moderation::from_bytes(data.try_into().ok()?));
    // The index of a queue, and two bytes that mean nothing.
    let queue = || {
        let ([a, b, _, _], rest) = data.split_first_chunk()?;
        Some((u16::from_le_bytes([*a, *b]), rest))
    };
    match command {
        VIRTIO_NET_CTRL_NOTF_COAL_TX_SET => {
            Some(Command::Coalesce(Those::Transmit, moderation(data)?))
        }
        VIRTIO_NET_CTRL_NOTF_COAL_RX_SET => {
            Some(Command::Coalesce(Those::Receive, moderation(data)?))
        }
        VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET => {
            let (index, rest) = queue()?;
            Some(Command::Coalesce(Those::One(index), moderation(rest)?))
        }
        VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET => {
            let (index, rest) = queue()?;
            rest.is_empty().then_some(Command::Coalescing(index))
        }
        _ => None,
    }
}

/// A table of addresses, and what follows it.
fn table(bytes: &[u8]) -> Option<(Vec<[u8; 6]>, &[u8])> {
    let (count, bytes) = bytes.split_first_chunk()?;
    let len = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(6)?;
    let (addresses, rest) = bytes.split_at_checked(len)?;
    Some((addresses.as_chunks().0.to_vec(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_whole_or_not_at_all() {
        assert_eq!(Command::from_bytes(&[4, 0, 2, 1]), Some(Command::Pairs(258)));
        let offloads = [5, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let expected = Command::GuestOffloads(Features(0x0807_0605_0403_0201));
        assert_eq!(Command::from_bytes(&offloads), Some(expected));
        assert_eq!(Command::from_bytes(&offloads[..9]), None);
        for bytes in [&[][..], &[4], &[4, 0], &[4, 0, 2], &[4, 0, 2, 0, 0], &[4, 1, 2, 0], &[99, 0]]
        {
            assert_eq!(Command::from_bytes(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn modes_of_reception_are_on_or_off() {
        for (command, mode) in [
            (0, RxMode::Promiscuous),
            (1, RxMode::AllMulticast),
            (2, RxMode::AllUnicast),
            (3, RxMode::NoMulticast),
            (4, RxMode::NoUnicast),
            (5, RxMode::NoBroadcast),
        ] {
            for on in [0, 1] {
                let expected = Command::Receive(mode, on == 1);
                assert_eq!(Command::from_bytes(&[0, command, on]), Some(expected));
            }
        }
        for bytes in [&[0, 6, 1][..], &[0, 0, 2], &[0, 0], &[0, 0, 1, 1]] {
            assert_eq!(Command::from_bytes(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn tables_of_addresses_are_as_long_as_they_say() {
        let command = |cards: u32, groups: u32, addresses: &[[u8; 6]]| {
            let (first, second) = addresses.split_at((cards as usize).min(addresses.len()));
            let counts = [cards, groups].map(u32::to_le_bytes);
            let bytes =
                [&[1, 0], &counts[0][..], first.as_flattened(), &counts[1], second.as_flattened()];
            Command::from_bytes(&bytes.concat())
        };
        assert_eq!(command(0, 0, &[]), Some(Command::Addresses(vec![], vec![])));
        let expected = Command::Addresses(vec![[2; 6]], vec![[1; 6], [3; 6]]);
        assert_eq!(command(1, 2, &[[2; 6], [1; 6], [3; 6]]), Some(expected));
        assert_eq!(command(1, 1, &[[2; 6], [1; 6], [3; 6]]), None, "an address too many");
        assert_eq!(command(1, 3, &[[2; 6], [1; 6], [3; 6]]), None, "an address too few");
        assert_eq!(command(u32::MAX, 0, &[[2; 6]]), None);
        assert_eq!(command(0, u32::MAX / 6, &[[2; 6]]), None);
        assert_eq!(Command::from_bytes(&[1, 0, 0, 0, 0, 0]), None, "one table of two");
    }

    #[test]
    fn interrupts_wait_in_all_queues_of_a_kind_or_in_one() {
        let (numbers, moderation) = ([1, 0, 0, 0, 2, 0, 0, 0], Moderation { packets: 1, usecs: 2 });
        for (head, expected) in [
            (&[6, 0][..], Command::Coalesce(Those::Transmit, moderation)),
            (&[6, 1], Command::Coalesce(Those::Receive, moderation)),
            (&[6, 2, 3, 1, 0xff, 0xff], Command::Coalesce(Those::One(259), moderation)),
        ] {
            let bytes = [head, &numbers].concat();
            assert_eq!(Command::from_bytes(&bytes), Some(expected));
            assert_eq!(Command::from_bytes(&bytes[..bytes.len() - 1]), None);
            assert_eq!(Command::from_bytes(&[&bytes[..], &[0]].concat()), None);
        }
        assert_eq!(Command::from_bytes(&[6, 3, 3, 1, 0xff, 0xff]), Some(Command::Coalescing(259)));
        for bytes in [&[6, 3, 3, 1, 0][..], &[6, 3, 3, 1, 0, 0, 0], &[6, 4], &[6, 2, 0]] {
            assert_eq!(Command::from_bytes(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn addresses_vlans_and_announcements() {
        let mac = "02:03:04:05:06:07".parse().unwrap();
        let set = [1, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(Command::from_bytes(&set), Some(Command::Address(mac)));
        assert_eq!(Command::from_bytes(&set[..7]), None);
        assert_eq!(Command::from_bytes(&[1, 1, 1, 3, 4, 5, 6, 7]), None, "a group's");
        assert_eq!(Command::from_bytes(&[2, 0, 0xff, 0xf]), Some(Command::Vlan(4095, true)));
        assert_eq!(Command::from_bytes(&[2, 1, 1, 0]), Some(Command::Vlan(1, false)));
        for bytes in [&[2, 0, 0, 0x10][..], &[2, 2, 0, 0], &[2, 0, 0]] {
            assert_eq!(Command::from_bytes(bytes), None, "{bytes:?}");
        }
        assert_eq!(Command::from_bytes(&[3, 0]), Some(Command::Announced));
        assert_eq!(Command::from_bytes(&[3, 0, 0]), None);
    }
}
