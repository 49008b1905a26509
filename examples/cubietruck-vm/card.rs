//! A network card, whatever it is on.

use std::time::Duration;

use anyhow::Context;
use cubie::lkvm::NetworkOption;
use cubie::net::{Capture, Captured, Counters, Mac, Net, NetBackend};
use cubie::netpath::Switch;
use cubie::virtio::VirtioDevice;
use virtio_bindings::virtio_net::VIRTIO_NET_F_HOST_TSO4;

/// How a card is going to be.
pub(crate) struct CardPlan<'a> {
    pub(crate) mac: Option<Mac>,
    /// The guest's name.
    name: &'a str,
    capture: Option<Capture>,
    /// What the guest is told that a frame can carry, if it is not the usual.
    pub(crate) mtu: Option<u16>,
    /// The kernel moves the frames, if it can.
    pub(crate) vhost: bool,
    /// For how long its threads look for frames by themselves.
    pub(crate) poll: Option<Duration>,
}

/// A card, and what can be told of it.
pub(crate) struct Card {
    pub(crate) device: Box<dyn VirtioDevice>,
    pub(crate) counters: Counters,
    /// The kernel serves its queues.
    pub(crate) vhost: bool,
    /// What is not on, and could be if the card is on a tap.
    pub(crate) switches: Vec<Switch>,
}

impl<'a> CardPlan<'a> {
    /// A card as the options have it, in the guest `name`. Its file for frames is there from now on.
    pub(crate) fn new(network: &NetworkOption, name: &'a str) -> anyhow::Result<Self> {
        let capture = network.capture.as_ref();
        let capture = capture.map(|file| Capture::with_snap_len(&file.path, file.snap_len));
        let capture = capture.transpose().context("--network pcap=FILE")?;
        Ok(Self { mac: network.mac, name, capture, mtu: None, vhost: false, poll: None })
    }

    /// The address of a card that is on something called `on`: VMs of one name differ on a bridge.
    pub(crate) fn mac_on(&self, on: &str) -> Mac {
        self.mac.unwrap_or_else(|| Mac::made_from(&format!("{} {on}", self.name)))
    }

    /// Makes the card, which is on something called `on`, with a pair of queues for each of `ends`.
    pub(crate) fn on<B: NetBackend>(self, on: &str, ends: Vec<B>) -> anyhow::Result<Card> {
        match self.capture.clone() {
            None => self.make(on, ends),
            Some(capture) => {
                let watched = ends.into_iter().map(|end| Captured::new(end, capture.clone()));
                self.make(on, watched.collect())
            }
        }
    }

    fn make<B: NetBackend>(mut self, on: &str, ends: Vec<B>) -> anyhow::Result<Card> {
        let mut card = Net::with_pairs(ends, self.mac_on(on)).context("--network mq=PAIRS")?;
        if let Some(mtu) = self.mtu {
            card = card.with_mtu(mtu)?;
        }
        if let Some(most) = self.poll {
            card = card.with_polling(most);
        }
        if self.vhost
            && let Err(error) = card.use_vhost()
        {
            eprintln!("cubietruck-vm: vhost=1: {error}; going on without");
            self.vhost = false;
        }
        let (counters, vhost, features) = (card.counters(), self.vhost, card.features());
        let switches = self.switches(features.has_bit(VIRTIO_NET_F_HOST_TSO4));
        Ok(Card { device: Box::new(card), counters, vhost, switches })
    }

    /// What is not on, and what the options would take besides. (`vhost=1` excludes `poll` and `pcap`.)
    fn switches(&self, offloads: bool) -> Vec<Switch> {
        let here = !self.vhost;
        let vhost = here && self.poll.is_none() && self.capture.is_none();
        let all = [
            (Switch::Offloads, !offloads),
            (Switch::Vhost, vhost),
            (Switch::Queues, true),
            (Switch::Polling, here && self.poll.is_none()),
            (Switch::Moderation, here),
        ];
        all.into_iter().filter_map(|(switch, off)| off.then_some(switch)).collect()
    }
}
