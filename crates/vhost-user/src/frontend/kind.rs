//! What a daemon serves.

use cubie_virtio_core::{DeviceId, Features};
use virtio_bindings::virtio_ids::VIRTIO_ID_FS;

/// A network card's address is in its configuration (VIRTIO 1.4 §5.1.3).
const NET_MAC: Features = Features::bit(5);
/// The features of a network card that take nothing but its two queues: checksums, segments, merged buffers. All that is
/// commanded by a control queue is left out: daemons leave that queue to whoever connects to them.
const NET: [u32; 18] = [0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 54, 55, 56, 59];
/// Of those, what its configuration has to say: MTU and STATUS.
const NET_CONFIG: [u32; 2] = [3, 16];
/// All of a disk but secure erasure and zones, which have a longer configuration (VIRTIO 1.4 §5.2.3).
const BLOCK: [u32; 12] = [0, 1, 2, 4, 5, 6, 9, 10, 11, 12, 13, 14];
/// The size of the console, and neither ports nor a register for emergencies (VIRTIO 1.4 §5.3.3).
const CONSOLE: [u32; 1] = [0];

/// Where a disk's configuration says whether writes may wait in its cache, and how many queues it has (VIRTIO 1.4
/// §5.2.4).
const BLOCK_WRITEBACK: usize = 32;
const BLOCK_QUEUES: usize = 34;

/// What kind of device a daemon serves, which vhost-user does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DaemonKind {
    /// A network card with a pair of queues.
    Net {
        /// The guest's address, unless it is the daemon's to say.
        mac: Option<[u8; 6]>,
    },
    /// A disk.
    Block {
        /// How many queues it has, at least 1.
        queues: u16,
    },
    /// A console with one port.
    Console,
    /// An entropy source.
    Rng,
    /// A shared folder (virtiofs).
    Fs {
        /// The name by which the guest mounts it, up to 36 bytes.
        tag: String,
        /// How many queues for requests it has, at least 1.
        queues: u16,
    },
}

impl DaemonKind {
    pub(crate) fn id(&self) -> DeviceId {
        match self {
            Self::Net { .. } => DeviceId::NET,
            Self::Block { .. } => DeviceId::BLOCK,
            Self::Console => DeviceId::CONSOLE,
            Self::Rng => DeviceId::RNG,
            Self::Fs { .. } => DeviceId(VIRTIO_ID_FS),
        }
    }

    /// The size of each queue. A daemon does not say how large it can have them; these are what every one has.
    pub(crate) fn queue_sizes(&self) -> Vec<u16> {
        match self {
            Self::Net { .. } => vec![256; 2],
            Self::Block { queues } => vec![256; usize::from(*queues)],
            Self::Console => vec![64; 2],
            Self::Rng => vec![16],
            // One for what does not wait its turn (VIRTIO 1.4 §5.11.2).
            Self::Fs { queues, .. } => vec![256; usize::from(*queues) + 1],
        }
    }

    /// The number of queues that the daemon must say that it has; `None` where every daemon has them.
    pub(crate) fn queues_to_ask_for(&self) -> Option<u16> {
        match self {
            Self::Block { queues } => Some(*queues).filter(|n| *n > 1),
            Self::Fs { queues, .. } => Some(*queues + 1),
            Self::Net { .. } | Self::Console | Self::Rng => None,
        }
    }

    /// What of the features `daemon` the guest is offered; `config`: the daemon has a configuration space.
    pub(crate) fn features(&self, daemon: Features, config: bool) -> Features {
        let known: &[u32] = match self {
            Self::Net { .. } => &NET,
            Self::Block { .. } => &BLOCK,
            Self::Console if config => &CONSOLE,
            Self::Console | Self::Rng | Self::Fs { .. } => &[],
        };
        let known =
            known.iter().filter(|bit| !self.is_net() || config || !NET_CONFIG.contains(bit));
        let known = known.fold(Features(0), |all, bit| all.with(Features::bit(*bit)));
        let features = daemon.and(known);
        match self {
            Self::Net { mac: Some(_) } => features.with(NET_MAC),
            Self::Net { mac: None } if !config => Features(features.0 & !NET_MAC.0),
            _ => features,
        }
    }

    fn is_net(&self) -> bool {
        matches!(self, Self::Net { .. })
    }

    /// Bytes of the configuration space.
    pub(crate) fn config_len(&self) -> usize {
        match self {
            Self::Net { .. } | Self::Console => 12,
            Self::Block { .. } => 60,
            Self::Rng => 0,
            Self::Fs { .. } => 40,
        }
    }

    /// Whether the daemon has to say what is in it.
    pub(crate) fn needs_config(&self) -> bool {
        matches!(self, Self::Block { .. })
    }

    /// Whether the daemon is asked at all. A shared folder's name is given here.
    pub(crate) fn asks_config(&self) -> bool {
        !matches!(self, Self::Fs { .. } | Self::Rng)
    }

    /// Whether a driver has anything to say there: of a disk whether its cache may be used (VIRTIO 1.4 §5.2.4).
    pub(crate) fn takes_config(&self, offset: usize, len: usize) -> bool {
        matches!(self, Self::Block { .. }) && (offset, len) == (BLOCK_WRITEBACK, 1)
    }

    /// Whether it finishes requests in another order than that in which they came, so that a ring does not say which
    /// of them were in flight.
    pub(crate) fn reorders(&self) -> bool {
        matches!(self, Self::Block { .. } | Self::Fs { .. })
    }

    /// Whether a daemon can go on for another one: the files of a folder are open in one process.
    pub(crate) fn has_successors(&self) -> bool {
        !matches!(self, Self::Fs { .. })
    }

    /// Puts what is decided here into the configuration that the daemon has said.
    pub(crate) fn finish_config(&self, config: &mut [u8]) {
        match self {
            Self::Net { mac: Some(mac) } => config[..6].copy_from_slice(mac),
            Self::Block { queues } => {
                config[BLOCK_QUEUES..][..2].copy_from_slice(&queues.to_le_bytes());
            }
            Self::Fs { tag, queues } => {
                let len = tag.len().min(36);
                config[..len].copy_from_slice(&tag.as_bytes()[..len]);
                config[36..].copy_from_slice(&u32::from(*queues).to_le_bytes());
            }
            Self::Net { mac: None } | Self::Console | Self::Rng => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Features = Features(u64::MAX);

    #[test]
    fn what_a_control_queue_commands_is_not_offered() {
        let card = DaemonKind::Net { mac: None };
        let offered = card.features(ALL, true);
        for commanded in [2, 17, 18, 19, 20, 21, 22, 23, 57, 60] {
            assert!(!offered.has_bit(commanded), "{commanded}");
        }
        assert!(offered.has_bit(15), "merged buffers");
    }

    #[test]
    fn a_card_without_configuration_has_the_address_that_was_given() {
        let mac = [2, 0, 0, 1, 2, 3];
        let card = DaemonKind::Net { mac: Some(mac) };
        assert!(card.features(Features(0), false).has(NET_MAC));
        let mut config = vec![0; card.config_len()];
        card.finish_config(&mut config);
        assert_eq!(config[..6], mac);
        let nameless = DaemonKind::Net { mac: None };
        assert_eq!(nameless.features(NET_MAC.with(Features::bit(16)), false), Features(0));
    }

    #[test]
    fn a_folder_has_its_name_and_its_queues() {
        let folder = DaemonKind::Fs { tag: "home".into(), queues: 2 };
        let mut config = vec![0; folder.config_len()];
        folder.finish_config(&mut config);
        assert_eq!((&config[..5], config[36]), (&b"home\0"[..], 2));
        assert_eq!(folder.queue_sizes().len(), 3);
    }
}
