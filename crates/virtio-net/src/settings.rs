//! How the pairs are to act, as the driver has asked for by commands.

use cubie_virtio_core::Features;

use crate::protocol::{CTRL_GUEST_OFFLOADS, Command, GUEST_OFFLOADS, MQ, consistent};

/// What holds for all pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Pairs of queues that the driver uses: the first ones.
    pub(crate) pairs: u16,
    /// What the host may leave to the driver.
    pub(crate) offloads: Features,
}

impl Settings {
    /// What holds before the first command of a driver that has negotiated `features`.
    pub(crate) fn new(features: Features) -> Self {
        Self { pairs: 1, offloads: consistent(features.and(GUEST_OFFLOADS)) }
    }
}

/// What bounds a driver's commands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// What it has negotiated.
    pub(crate) features: Features,
    /// Pairs that it has set up.
    pub(crate) pairs: u16,
}

impl Settings {
    /// What holds after `command`; `None` if the driver may not ask for that.
    pub(crate) fn after(&self, command: Command, limits: Limits) -> Option<Self> {
        let features = limits.features;
        match command {
            Command::Pairs(pairs) => {
                let may = features.has(MQ) && (1..=limits.pairs).contains(&pairs);
                may.then_some(Self { pairs, ..self.clone() })
            }
            Command::GuestOffloads(offloads) => {
                let negotiated = features.and(GUEST_OFFLOADS);
                let may = features.has(CTRL_GUEST_OFFLOADS) && negotiated.has(offloads);
                may.then(|| Self { offloads: consistent(offloads), ..self.clone() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_bindings::virtio_net::*;

    #[test]
    fn a_driver_may_use_the_pairs_that_it_has_set_up() {
        let after = |features, pairs| {
            let limits = Limits { features, pairs: 4 };
            let settings = Settings::new(features).after(Command::Pairs(pairs), limits);
            settings.map(|settings| settings.pairs)
        };
        let pairs = [0, 1, 4, 5, 0x8001].map(|pairs| after(MQ, pairs));
        assert_eq!(pairs, [None, Some(1), Some(4), None, None]);
        assert_eq!(after(Features::default(), 1), None, "the command was not negotiated");
    }

    #[test]
    fn a_driver_may_turn_off_what_it_has_negotiated() {
        let [csum, tso] = [VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4].map(Features::bit);
        let features = csum.with(tso).with(CTRL_GUEST_OFFLOADS);
        let all = Settings::new(features);
        assert_eq!(all.offloads, csum.with(tso));
        let after = |features, offloads| {
            let limits = Limits { features, pairs: 1 };
            let settings = all.after(Command::GuestOffloads(offloads), limits);
            settings.map(|settings| settings.offloads)
        };
        for offloads in [Features(0), csum, csum.with(tso)] {
            assert_eq!(after(features, offloads), Some(offloads));
        }
        assert_eq!(after(features, tso), Some(Features(0)), "segments need checksums");
        assert_eq!(after(features, csum.with(Features::bit(VIRTIO_NET_F_GUEST_TSO6))), None);
        assert_eq!(after(features, Features::bit(VIRTIO_NET_F_MQ)), None, "no offload at all");
        assert_eq!(after(csum, csum), None, "the command was not negotiated");
    }
}
