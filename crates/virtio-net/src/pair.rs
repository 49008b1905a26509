//! Data plane: one pair of queues between kick and interrupt.

use cubie_virtio_core::{Features, Handler, QueueState, Source, StartError, Virtqueue};

use crate::board::Seat;
use crate::parts::Pair;
use crate::receive::Receiver;
use crate::transmit::Transmitter;
use crate::workers::HostEnd;
use crate::{Counters, Link, NetBackend};

const NEWS: u32 = 0;
const RECEIVE_KICK: u32 = 1;
const TRANSMIT_KICK: u32 = 2;
const HOST: u32 = 3;

/// What a pair has in common with its card.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    /// What the driver has negotiated.
    pub(crate) features: Features,
    /// Bytes of payload in a frame that need not be cut, if the driver can be told.
    pub(crate) mtu: Option<u16>,
    pub(crate) link: Link,
    pub(crate) counters: Counters,
}

/// Serves one pair of queues.
#[derive(Debug)]
pub(crate) struct PairHandler<B> {
    backend: B,
    receiver: Receiver,
    transmitter: Transmitter,
    seat: Seat,
    /// What the host end was told that it may leave to the driver; an earlier driver's is not known here.
    offloads: Option<Features>,
    /// The driver uses the pair. If not, it is sent nothing, and what it sends all the same is dropped.
    active: bool,
}

impl<B: NetBackend> HostEnd for B {
    type Queue = Virtqueue;
    type Ready = Pair<Virtqueue>;
    type Server = PairHandler<B>;

    /// The host end is in use until the first look at what is posted, before which nothing passes.
    fn prepare(&mut self, pair: Pair<Virtqueue>, _: &Card) -> Result<Self::Ready, StartError> {
        self.set_active(true)?;
        Ok(pair)
    }

    fn serve(self, pair: Pair<Virtqueue>, seat: Seat, card: Card) -> PairHandler<B> {
        let filter = seat.settings().filter;
        let receiver = Receiver::new(pair.receive, filter, card.clone(), seat.pair());
        let transmitter = Transmitter::new(pair.transmit, card, seat.pair());
        let (backend, offloads, active) = (self, None, false);
        PairHandler { backend, receiver, transmitter, seat, offloads, active }
    }

    fn park(server: PairHandler<B>) -> (Self, [(u16, QueueState); 2]) {
        let PairHandler { backend, receiver, transmitter, .. } = server;
        (backend, [receiver.park(), transmitter.park()])
    }
}

impl<B: NetBackend> PairHandler<B> {
    /// Acts by what is posted from now on.
    fn obey(&mut self) {
        let Self { backend, receiver, seat, offloads, active, .. } = self;
        seat.obey(|settings| {
            *active = seat.pair() < settings.pairs;
            backend.set_active(*active)?;
            if *active && *offloads != Some(settings.offloads) {
                backend.set_guest_offloads(settings.offloads)?;
                *offloads = Some(settings.offloads);
            }
            receiver.obey(settings);
            Ok(())
        });
    }

    fn receive(&mut self) {
        if self.active {
            self.receiver.receive(&mut self.backend);
        }
    }

    fn transmit(&mut self) {
        self.transmitter.transmit(&mut self.backend, self.active);
    }
}

impl<B: NetBackend> Handler for PairHandler<B> {
    fn sources(&self) -> Vec<Source> {
        vec![
            Source::readable(self.seat.bell(), NEWS),
            Source::readable(self.receiver.queue().kick(), RECEIVE_KICK),
            Source::readable(self.transmitter.queue().kick(), TRANSMIT_KICK),
            Source::read_write(&self.backend.ready_fd(), HOST),
        ]
    }

    fn begin(&mut self) {
        self.obey();
    }

    fn ready(&mut self, token: u32) {
        match token {
            NEWS => {
                self.obey();
                // What waited for this.
                self.receive();
                self.transmit();
            }
            RECEIVE_KICK => self.receive(),
            TRANSMIT_KICK => self.transmit(),
            _ => {
                self.receive();
                if self.transmitter.is_waiting() {
                    self.transmit();
                }
            }
        }
    }
}
