//! Who serves the queues while the card runs: a worker for each pair, and one for the control queue.

use std::io;

use cubie_virtio_core::{
    Features, Handler, QueueState, Queues, Running, StartError, Station, spawn,
};

use crate::Mac;
use crate::board::{Board, Seat};
use crate::control::ControlHandler;
use crate::pair::Card;
use crate::parts::{Pair, Parts, Queue};
use crate::protocol::GUEST_ANNOUNCE;
use crate::settings::{Limits, Settings};

/// A pair's end on the host's side, and how it serves the queues.
pub(crate) trait HostEnd: Sized {
    /// What it makes of a queue.
    type Queue: Queue;
    /// A pair of queues that will be served.
    type Ready;
    /// Serves them.
    type Server: Handler;

    /// Makes the queues ready to be served. Nothing is yet.
    fn prepare(&mut self, pair: Pair<Self::Queue>, card: &Card) -> Result<Self::Ready, StartError>;

    /// Becomes who serves them, as what is posted before `seat` has it.
    fn serve(self, ready: Self::Ready, seat: Seat, card: Card) -> Self::Server;

    /// Itself again, and how far the queues have got, by their index. Nothing is in flight afterwards.
    fn park(server: Self::Server) -> (Self, [(u16, QueueState); 2]);
}

/// The host ends of a card, with their workers while it runs.
pub(crate) struct Workers<E: HostEnd> {
    pairs: Vec<Station<E, E::Server>>,
    control: Option<Running<ControlHandler<Board>>>,
    /// What the driver has asked for. The control queue's worker knows better while it runs.
    settings: Settings,
    /// How far queues had got at the start: those that nobody serves are there still.
    states: Vec<QueueState>,
}

impl<E: HostEnd> Workers<E> {
    /// All of them parked, of a card with the address `mac`.
    pub(crate) fn new(ends: impl IntoIterator<Item = E>, mac: Mac) -> Self {
        let pairs = ends.into_iter().map(Station::Parked).collect();
        let settings = Settings::new(mac, Features::default());
        Self { pairs, control: None, settings, states: vec![] }
    }

    /// Pairs of queues that can be served.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// What the driver of a card that is stopped had asked for.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The same, to go on with another.
    pub(crate) fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// The host ends that are parked: all, unless the card runs.
    pub(crate) fn parked(&mut self) -> impl Iterator<Item = &mut E> {
        self.pairs.iter_mut().filter_map(Station::parked_mut)
    }

    /// Takes them out, for good.
    pub(crate) fn take_parked(&mut self) -> Vec<E> {
        self.pairs.drain(..).filter_map(Station::into_parked).collect()
    }

    /// Starts a worker for each pair, and one for the control queue. The card's own address is `mac`.
    pub(crate) fn start(
        &mut self,
        card: &Card,
        mac: Mac,
        queues: Queues,
    ) -> Result<(), StartError> {
        let parts = Parts::sort(queues, self.pairs.len(), card.features)?;
        self.start_all(card, mac, parts).inspect_err(|_| _ = self.stop())
    }

    fn start_all(
        &mut self,
        card: &Card,
        mac: Mac,
        parts: Parts<E::Queue>,
    ) -> Result<(), StartError> {
        let in_reset = parts.in_reset();
        let Parts { pairs, control, states, goes_on } = parts;
        self.states = states;
        let features = card.features;
        if !goes_on {
            self.settings = Settings::new(mac, features);
            card.link.begin(features.has(GUEST_ANNOUNCE));
        }
        in_reset.iter().for_each(|index| self.settings.coalescing.forget(*index));
        let settings = self.settings.clone();
        card.link.show_mac(settings.filter.mac);
        card.link.show();
        let limits = Limits { features, pairs: pairs.len() as u16, in_reset };
        let (board, seats) = Board::new(limits.pairs, settings.clone(), &card.complained)?;
        for (pair, seat) in pairs.into_iter().zip(seats) {
            self.start_pair(pair, seat, card)?;
        }
        if let Some(queue) = control {
            let handler = ControlHandler::new(queue, board, card.link.clone(), limits, settings);
            self.control = Some(spawn("virtio-net-ctrl", handler).map_err(|(error, _)| error)?);
        }
        Ok(())
    }

    fn start_pair(
        &mut self,
        pair: Pair<E::Queue>,
        seat: Seat,
        card: &Card,
    ) -> Result<(), StartError> {
        let station = &mut self.pairs[usize::from(seat.pair())];
        let Station::Parked(end) = station else {
            return Err(io::Error::other("the pair was not parked").into());
        };
        let ready = end.prepare(pair, card)?;
        let name = format!("virtio-net-{}", seat.pair());
        let serve = |end: E| end.serve(ready, seat, card.clone());
        Ok(station.start(&name, serve, |server| E::park(server).0)?)
    }

    /// Ends them all. How far each queue of the card has got, by its index.
    pub(crate) fn stop(&mut self) -> Vec<QueueState> {
        let mut states = std::mem::take(&mut self.states);
        // First who may ask the others for something.
        if let Some(control) = self.control.take() {
            let (settings, (index, state)) = control.stop().park();
            self.settings = settings;
            states[usize::from(index)] = state;
        }
        let pairs = self.pairs.iter_mut().filter_map(|pair| pair.stop(E::park));
        for (index, state) in pairs.flatten() {
            states[usize::from(index)] = state;
        }
        states
    }
}
