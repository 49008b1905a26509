//! Control plane: identity, configuration, start and stop.

use std::io;

use cubie_virtio_core::{
    Config, DeviceId, Features, QueueState, Queues, RestoreError, Running, StartError, Station,
    VirtioDevice, spawn,
};

use crate::board::{Board, Seat};
use crate::control::ControlHandler;
use crate::link::Link;
use crate::pair::{Card, PairHandler};
use crate::parts::{Pair, Parts};
use crate::protocol::{
    self, CTRL_GUEST_OFFLOADS, Duplex, FEATURES, GUEST_ANNOUNCE, GUEST_OFFLOADS, HOST_OFFLOADS, MQ,
    MTU, SPEED_DUPLEX, consistent,
};
use crate::saved::{self, Made};
use crate::settings::{Limits, Settings};
use crate::{Counters, Mac, NetBackend};

/// Chains that fit into each queue. So many fit into the control queue, too: its index is that of another
/// queue for a driver that does not know of several pairs.
const QUEUE_SIZE: u16 = 256;

/// As many as a tap has (Linux, drivers/net/tun.c, `MAX_TAP_QUEUES`).
const MOST_PAIRS: usize = 256;

/// The virtio network card.
pub struct Net<B: NetBackend> {
    config: Config,
    /// The address that the card was made with.
    mac: Mac,
    features: Features,
    mtu: Option<u16>,
    queue_sizes: Vec<u16>,
    link: Link,
    counters: Counters,
    pairs: Vec<Station<B, PairHandler<B>>>,
    control: Option<Running<ControlHandler<Board>>>,
    /// What the driver has asked for. The control queue's worker knows better while it runs.
    settings: Settings,
    /// How far queues had got at the start: those that nobody serves are there still.
    states: Vec<QueueState>,
}

/// Not as many host ends as a card can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a card has 1 to {MOST_PAIRS} pairs of queues, not {0}: give as many host ends")]
pub struct PairsError(usize);

/// An MTU that a card cannot have (VIRTIO 1.4 §5.1.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a card's MTU is 68 to 65535 bytes, not {0}: give another one, or none")]
pub struct MtuError(u16);

impl<B: NetBackend> Net<B> {
    /// A card with the address `mac` whose cable ends in `backend`.
    pub fn new(backend: B, mac: Mac) -> Self {
        Self::of(vec![backend], mac)
    }

    /// A card with a pair of queues, and a thread, for each of `backends`, up to 256. The driver begins with
    /// the first, and uses more when it likes. What each end can do should be the same.
    pub fn with_pairs(backends: Vec<B>, mac: Mac) -> Result<Self, PairsError> {
        match backends.len() {
            1..=MOST_PAIRS => Ok(Self::of(backends, mac)),
            count => Err(PairsError(count)),
        }
    }

    fn of(backends: Vec<B>, mac: Mac) -> Self {
        let pairs = backends.len();
        let config = Config::new(protocol::config::config(mac, pairs as u16));
        let common = |of: fn(&B) -> Features| backends.iter().map(of).reduce(Features::and);
        let host = common(B::offloads).unwrap_or_default().and(HOST_OFFLOADS);
        let guest = common(B::guest_offloads).unwrap_or_default().and(GUEST_OFFLOADS);
        let guest = match consistent(guest) {
            Features(0) => Features(0),
            some => some.with(CTRL_GUEST_OFFLOADS),
        };
        let several = if pairs > 1 { MQ } else { Features(0) };
        Self {
            mac,
            features: FEATURES.with(consistent(host)).with(guest).with(several),
            mtu: None,
            queue_sizes: vec![QUEUE_SIZE; protocol::control(pairs) + 1],
            link: Link::new(config.clone()),
            counters: Counters::new(pairs),
            pairs: backends.into_iter().map(Station::Parked).collect(),
            control: None,
            settings: Settings::new(mac, Features(0)),
            states: vec![],
            config,
        }
    }

    /// Tells the driver how many bytes of payload the network behind the card takes in a frame. Longer frames
    /// that need not be cut are dropped on their way to the guest.
    pub fn with_mtu(mut self, mtu: u16) -> Result<Self, MtuError> {
        if mtu < 68 {
            return Err(MtuError(mtu));
        }
        self.config.update(|bytes| protocol::config::set_mtu(bytes, mtu));
        (self.mtu, self.features) = (Some(mtu), self.features.with(MTU));
        Ok(self)
    }

    /// Tells the driver how fast the link is, in Mbit/s up to 2³¹ − 1, which changes nothing.
    #[must_use]
    pub fn with_speed(mut self, mbits: u32, duplex: Duplex) -> Self {
        let mbits = mbits.min(i32::MAX as u32);
        self.config.update(|bytes| protocol::config::set_speed(bytes, mbits, duplex));
        self.features = self.features.with(SPEED_DUPLEX);
        self
    }

    /// A handle on the counters of what passes and what does not.
    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }

    /// A handle that plugs the cable in and out.
    pub fn link(&self) -> Link {
        self.link.clone()
    }

    fn made(&self) -> Made {
        Made { mac: self.mac, mtu: self.mtu }
    }

    /// Starts a worker for each pair, and one for the control queue.
    fn start_workers(&mut self, features: Features, parts: Parts) -> io::Result<()> {
        let Parts { pairs, control, states, goes_on } = parts;
        self.states = states;
        if !goes_on {
            self.settings = Settings::new(self.mac, features);
            self.link.begin(features.has(GUEST_ANNOUNCE));
        }
        self.link.show_mac(self.settings.filter.mac);
        let limits = Limits { features, pairs: pairs.len() as u16 };
        let (board, seats) = Board::new(limits.pairs, self.settings.clone())?;
        let (mtu, link, counters) = (self.mtu, self.link.clone(), self.counters.clone());
        let card = Card { features, mtu, link, counters };
        for (pair, seat) in pairs.into_iter().zip(seats) {
            self.start_pair(pair, seat, card.clone())?;
        }
        if let Some(queue) = control {
            let (link, settings) = (self.link.clone(), self.settings.clone());
            let handler = ControlHandler::new(queue, board, link, limits, settings);
            self.control = Some(spawn("virtio-net-ctrl", handler).map_err(|(error, _)| error)?);
        }
        Ok(())
    }

    fn start_pair(&mut self, pair: Pair, seat: Seat, card: Card) -> io::Result<()> {
        let station = &mut self.pairs[usize::from(seat.pair())];
        if let Station::Parked(backend) = station {
            backend.set_active(true)?;
        }
        let name = format!("virtio-net-{}", seat.pair());
        let build = |backend| PairHandler::new(backend, pair, seat, card);
        station.start(&name, build, |handler| handler.park().0)
    }
}

impl<B: NetBackend> VirtioDevice for Net<B> {
    fn id(&self) -> DeviceId {
        DeviceId::NET
    }

    fn features(&self) -> Features {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn start(&mut self, features: Features, queues: Queues) -> Result<(), StartError> {
        let parts = Parts::sort(queues, self.pairs.len(), features)?;
        self.start_workers(features, parts).map_err(|error| {
            self.stop();
            error.into()
        })
    }

    fn stop(&mut self) -> Vec<QueueState> {
        let mut states = std::mem::take(&mut self.states);
        // First who may ask the others for something.
        if let Some(control) = self.control.take() {
            let (settings, (index, state)) = control.stop().park();
            self.settings = settings;
            states[usize::from(index)] = state;
        }
        // The next driver reads it before the card is started.
        self.link.show_mac(self.mac);
        let pairs = self.pairs.iter_mut().filter_map(|pair| pair.stop(PairHandler::park));
        for (index, state) in pairs.flatten() {
            states[usize::from(index)] = state;
        }
        states
    }

    /// What the driver has asked for, the link, and by what the card is known again.
    fn save(&self) -> Vec<u8> {
        saved::save(self.made(), &self.link, &self.settings)
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let (link, settings) = saved::restored(state, self.made(), self.pairs.len())?;
        self.settings = settings;
        self.link.restore(link);
        Ok(())
    }
}
