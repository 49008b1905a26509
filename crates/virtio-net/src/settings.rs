//! How the pairs are to act, as the driver has asked for by commands.

use std::sync::Arc;

use cubie_virtio_core::Features;

use crate::Mac;
use crate::coalescing::{Coalescing, Moderation, Those};
use crate::filter::Filter;
use crate::protocol::{
    CTRL_GUEST_OFFLOADS, CTRL_MAC_ADDR, CTRL_RX, CTRL_RX_EXTRA, CTRL_VLAN, Command, GUEST_ANNOUNCE,
    GUEST_OFFLOADS, MQ, NOTF_COAL, RxMode, VQ_NOTF_COAL, consistent,
};
use crate::saved::take;

/// What holds for all pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Pairs of queues that the driver uses: the first ones.
    pub(crate) pairs: u16,
    /// What the host may leave to the driver.
    pub(crate) offloads: Features,
    /// What the driver wants to receive. Shared with all pairs, and changed by a copy.
    pub(crate) filter: Arc<Filter>,
    /// How interrupts wait.
    pub(crate) coalescing: Coalescing,
}

impl Settings {
    /// What holds before the first command of a driver that has negotiated `features`.
    /// The card has the address `mac`.
    pub(crate) fn new(mac: Mac, features: Features) -> Self {
        let offloads = consistent(features.and(GUEST_OFFLOADS));
        let filter = Arc::new(Filter::new(mac, features));
        Self { pairs: 1, offloads, filter, coalescing: Coalescing::default() }
    }
}

/// What bounds a driver's commands.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// What it has negotiated.
    pub(crate) features: Features,
    /// Pairs that it has set up.
    pub(crate) pairs: u16,
    /// Queues of these that it has reset.
    pub(crate) in_reset: Vec<u16>,
}

impl Limits {
    /// May the driver speak of queue `index` of a pair?
    fn have(&self, index: u16) -> bool {
        index < 2 * self.pairs && !self.in_reset.contains(&index)
    }
}

impl Settings {
    /// What holds after `command`; `None` if the driver may not ask for that.
    pub(crate) fn after(&self, command: Command, limits: &Limits) -> Option<Self> {
        let features = limits.features;
        if !features.has(needed(&command)) {
            return None;
        }
        let mut after = self.clone();
        match command {
            Command::Receive(mode, on) => after.filter_mut().set_mode(mode, on),
            Command::Addresses(cards, groups) => after.filter_mut().set_tables(cards, groups),
            Command::Address(mac) => after.filter_mut().mac = mac,
            Command::Vlan(id, welcome) => after.filter_mut().set_vlan(id, welcome),
            Command::Announced => {}
            Command::Pairs(pairs) if (1..=limits.pairs).contains(&pairs) => after.pairs = pairs,
            Command::GuestOffloads(offloads) if features.and(GUEST_OFFLOADS).has(offloads) => {
                after.offloads = consistent(offloads);
            }
            Command::Coalesce(Those::One(index), _) if !limits.have(index) => return None,
            Command::Coalesce(those, moderation) => after.coalescing.set(those, moderation),
            Command::Pairs(_) | Command::GuestOffloads(_) | Command::Coalescing(_) => return None,
        }
        Some(after)
    }

    /// How interrupts of queue `index` wait; `None` if the driver may not ask for that.
    pub(crate) fn coalescing_of(&self, index: u16, limits: &Limits) -> Option<Moderation> {
        let may = limits.features.has(VQ_NOTF_COAL) && limits.have(index);
        may.then(|| self.coalescing.of(index))
    }

    /// For a snapshot: pairs, offloads, the filter, and how interrupts wait.
    pub(crate) fn save(&self, saved: &mut Vec<u8>) {
        let Self { pairs, offloads, filter, coalescing } = self;
        saved.extend(pairs.to_le_bytes());
        saved.extend(offloads.0.to_le_bytes());
        filter.save(saved);
        coalescing.save(saved);
    }

    /// What [`Settings::save`] has put at the front of `rest`, of a card that has so many `pairs`.
    pub(crate) fn restored(rest: &mut &[u8], pairs: usize) -> Option<Self> {
        let used = u16::from_le_bytes(take(rest)?);
        let offloads = Features(u64::from_le_bytes(take(rest)?));
        let filter = Arc::new(Filter::restored(rest)?);
        let coalescing = Coalescing::restored(rest, pairs)?;
        let sound = (1..=pairs).contains(&used.into())
            && GUEST_OFFLOADS.has(offloads)
            && consistent(offloads) == offloads;
        sound.then_some(Self { pairs: used, offloads, filter, coalescing })
    }

    fn filter_mut(&mut self) -> &mut Filter {
        Arc::make_mut(&mut self.filter)
    }
}

/// What a driver must have negotiated for a command.
fn needed(command: &Command) -> Features {
    match command {
        Command::Receive(RxMode::Promiscuous | RxMode::AllMulticast, _) => CTRL_RX,
        Command::Receive(..) => CTRL_RX_EXTRA,
        Command::Addresses(..) => CTRL_RX,
        Command::Address(_) => CTRL_MAC_ADDR,
        Command::Vlan(..) => CTRL_VLAN,
        Command::Announced => GUEST_ANNOUNCE,
        Command::Pairs(_) => MQ,
        Command::GuestOffloads(_) => CTRL_GUEST_OFFLOADS,
        Command::Coalesce(Those::One(_), _) | Command::Coalescing(_) => VQ_NOTF_COAL,
        Command::Coalesce(..) => NOTF_COAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_bindings::virtio_net::*;

    #[test]
    fn a_driver_may_use_the_pairs_that_it_has_set_up() {
        let after = |features, pairs| {
            let limits = Limits { features, pairs: 4, in_reset: vec![] };
            let settings = Settings::new(Mac::made_from("test"), features)
                .after(Command::Pairs(pairs), &limits);
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
        let all = Settings::new(Mac::made_from("test"), features);
        assert_eq!(all.offloads, csum.with(tso));
        let after = |features, offloads| {
            let limits = Limits { features, pairs: 1, in_reset: vec![] };
            let settings = all.after(Command::GuestOffloads(offloads), &limits);
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

    #[test]
    fn a_driver_speaks_of_queues_that_it_has_and_of_features_that_it_has_negotiated() {
        let moderation = Moderation { packets: 9, usecs: 9 };
        let after = |features, those| {
            let limits = Limits { features, pairs: 2, in_reset: vec![2] };
            let new = Settings::new(Mac::made_from("test"), features);
            let after = new.after(Command::Coalesce(those, moderation), &limits);
            after.map(|after| [0, 1, 2, 3, 4].map(|index| after.coalescing_of(index, &limits)))
        };
        let (none, nine) = (Some(Moderation::default()), Some(moderation));
        let both = NOTF_COAL.with(VQ_NOTF_COAL);
        assert_eq!(after(both, Those::Receive), Some([nine, none, None, none, None]));
        assert_eq!(after(both, Those::One(3)), Some([none, none, None, nine, None]));
        for index in [2, 4, u16::MAX] {
            assert_eq!(after(both, Those::One(index)), None, "queue {index}");
        }
        assert_eq!(after(NOTF_COAL, Those::One(0)), None);
        assert_eq!(after(VQ_NOTF_COAL, Those::Transmit), None);
        assert_eq!(after(NOTF_COAL, Those::Transmit), Some([None; 5]), "it cannot be asked");
    }
}
