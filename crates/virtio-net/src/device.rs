//! Control plane: identity, configuration, start and stop.

use std::io;

use cubie_virtio_core::{
    Config, DeviceId, Features, QueueState, Queues, Running, StartError, Station, VirtioDevice,
    spawn,
};

use crate::board::{Board, Seat};
use crate::control::ControlHandler;
use crate::pair::PairHandler;
use crate::parts::{Pair, Parts};
use crate::protocol::{self, CTRL_VQ, FEATURES, MQ};
use crate::settings::{Limits, Settings};
use crate::{Drops, Mac, NetBackend};

/// Chains that fit into each queue. So many fit into the control queue, too: its index is that of another
/// queue for a driver that does not know of several pairs.
const QUEUE_SIZE: u16 = 256;

/// As many as a tap has (Linux, drivers/net/tun.c, `MAX_TAP_QUEUES`).
const MOST_PAIRS: usize = 256;

/// The virtio network card.
pub struct Net<B: NetBackend> {
    config: Config,
    offloads: Features,
    queue_sizes: Vec<u16>,
    drops: Drops,
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
        let offloads = backends.iter().map(NetBackend::offloads).reduce(Features::and);
        Self {
            config: Config::new(protocol::config(mac, pairs as u16)),
            offloads: protocol::offloads(offloads.unwrap_or_default()),
            queue_sizes: vec![QUEUE_SIZE; protocol::control(pairs) + 1],
            drops: Drops::default(),
            pairs: backends.into_iter().map(Station::Parked).collect(),
            control: None,
            settings: Settings::default(),
            states: vec![],
        }
    }

    /// A handle on the counters of frames that were dropped.
    pub fn drops(&self) -> Drops {
        self.drops.clone()
    }

    /// Starts a worker for each pair, and one for the control queue.
    fn start_workers(&mut self, features: Features, parts: Parts) -> io::Result<()> {
        let Parts { pairs, control, states, goes_on } = parts;
        self.states = states;
        if !goes_on {
            self.settings = Settings::default();
        }
        let limits = Limits { features, pairs: pairs.len() as u16 };
        let (board, seats) = Board::new(limits.pairs, self.settings.clone())?;
        for (pair, seat) in pairs.into_iter().zip(seats) {
            self.start_pair(pair, seat, features)?;
        }
        if let Some(queue) = control {
            let handler = ControlHandler::new(queue, board, limits, self.settings.clone());
            self.control = Some(spawn("virtio-net-ctrl", handler).map_err(|(error, _)| error)?);
        }
        Ok(())
    }

    fn start_pair(&mut self, pair: Pair, seat: Seat, features: Features) -> io::Result<()> {
        let station = &mut self.pairs[usize::from(seat.pair())];
        if let Station::Parked(backend) = station {
            backend.set_active(true)?;
        }
        let (name, drops) = (format!("virtio-net-{}", seat.pair()), self.drops.clone());
        station.start(
            &name,
            |backend| PairHandler::new(backend, pair, seat, features, drops),
            |handler| handler.park().0,
        )
    }
}

impl<B: NetBackend> VirtioDevice for Net<B> {
    fn id(&self) -> DeviceId {
        DeviceId::NET
    }

    fn features(&self) -> Features {
        let several = if self.pairs.len() > 1 { MQ } else { Features::default() };
        FEATURES.with(self.offloads).with(CTRL_VQ).with(several)
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
        let pairs = self.pairs.iter_mut().filter_map(|pair| pair.stop(PairHandler::park));
        for (index, state) in pairs.flatten() {
            states[usize::from(index)] = state;
        }
        states
    }
}
