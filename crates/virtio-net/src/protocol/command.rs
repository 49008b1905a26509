//! Commands of the control queue (VIRTIO 1.4 §5.1.6.5).

use cubie_virtio_core::Features;
use virtio_bindings::virtio_net::*;

/// Bytes of the longest command that is understood.
pub(crate) const MOST_COMMAND: usize = 8192;

/// What a driver asks the card to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Use this many pairs of queues (§5.1.6.5.5).
    Pairs(u16),
    /// Leave no more than this to the driver (§5.1.6.5.6.1).
    GuestOffloads(Features),
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
            (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) => {
                Some(Self::Pairs(u16::from_le_bytes(data.try_into().ok()?)))
            }
            (VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET) => {
                Some(Self::GuestOffloads(Features(u64::from_le_bytes(data.try_into().ok()?))))
            }
            _ => None,
        }
    }
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
}
