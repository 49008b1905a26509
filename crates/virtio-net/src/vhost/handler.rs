//! The worker beside the kernel.

use std::fs::File;
use std::io;
use std::sync::Arc;

use cubie_virtio_core::{Features, Handler, QueueState, Source, StartError, Virtqueue};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{KernelQueue, Lent, Vhost};
use crate::board::Seat;
use crate::pair::Card;
use crate::parts::Pair;
use crate::workers::HostEnd;
use crate::{NetBackend, NetHeader};

const NEWS: u32 = 0;
/// From here on by the kernel's number of the queue.
const QUEUE: u32 = 1;

/// A host end whose queues the kernel serves.
#[derive(Debug)]
pub(crate) struct InKernel<B> {
    pub(crate) backend: B,
    pub(crate) vhost: Vhost,
}

/// A queue that the kernel knows, or one that is in reset.
#[derive(Debug)]
pub(crate) enum Place {
    Known(KernelQueue),
    InReset(Box<Virtqueue>),
}

/// Awake for what the kernel cannot do only.
#[derive(Debug)]
pub(crate) struct KernelHandler<B> {
    end: InKernel<B>,
    places: [Place; 2],
    seat: Seat,
    card: Card,
    /// The cable was plugged in or out.
    replugged: Arc<EventFd>,
}

impl<B: NetBackend> HostEnd for InKernel<B> {
    type Queue = Lent;
    type Ready = ([Place; 2], Arc<EventFd>);
    type Server = KernelHandler<B>;

    fn prepare(&mut self, pair: Pair<Lent>, card: &Card) -> Result<Self::Ready, StartError> {
        let vhost = &self.vhost;
        let place = |nth, queue| match queue {
            Lent::Ready(queue) => {
                vhost.begin(card.features, &queue.memory)?;
                KernelQueue::new(vhost, nth, queue).map(Place::Known)
            }
            Lent::InReset(queue) => Ok(Place::InReset(queue)),
        };
        let places = [place(0, pair.receive)?, place(1, pair.transmit)?];
        let replugged = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        card.link.watch(&replugged);
        Ok((places, replugged))
    }

    fn serve(self, (places, replugged): Self::Ready, seat: Seat, card: Card) -> KernelHandler<B> {
        let tally = card.counters.tally(seat.pair());
        for (place, effort) in places.iter().zip(tally.efforts()) {
            if let Place::Known(queue) = place {
                effort.kicks.begin(queue.kick());
            }
        }
        KernelHandler { end: self, places, seat, card, replugged }
    }

    fn park(server: KernelHandler<B>) -> (Self, [(u16, QueueState); 2]) {
        let KernelHandler { mut end, mut places, seat, card, .. } = server;
        for effort in card.counters.tally(seat.pair()).efforts() {
            effort.kicks.end();
        }
        match connect(&end.vhost, &places, None) {
            Ok(()) => end.vhost.end(),
            Err(error) => tracing::warn!(%error, "vhost-net does not let go of a queue"),
        }
        for place in &mut places {
            // What it said last, which the worker has not heard.
            place.relay(&end.vhost, || is_lost(&mut end.backend, &card));
        }
        // Frames for the next driver must not ask it for more than it can.
        let _ = end.backend.set_guest_offloads(Features(0));
        let states = places.map(|place| match place {
            Place::Known(queue) => queue.state(&end.vhost),
            Place::InReset(queue) => (queue.index(), queue.state()),
        });
        (end, states)
    }
}

impl Place {
    fn relay(&mut self, vhost: &Vhost, is_lost: impl FnOnce() -> bool) {
        if let Self::Known(queue) = self {
            queue.relay(vhost, is_lost);
        }
    }
}

/// Whether the host end is gone, which nobody but itself says: the link goes down then.
fn is_lost<B: NetBackend>(backend: &mut B, card: &Card) -> bool {
    let asked = card.link.unless_lost(|| backend.lend(NetHeader::len(card.features)).map(drop));
    if let Err(error) = asked {
        tracing::warn!(%error, "the tap does not answer");
    }
    card.link.is_lost()
}

/// Has the kernel serve the queues through this tap, or, without one, serve them no more: all that it lets go
/// of, also after an error.
fn connect(vhost: &Vhost, places: &[Place], tap: Option<&File>) -> io::Result<()> {
    let each = |place: &Place| match place {
        Place::Known(queue) => queue.connect(vhost, tap),
        Place::InReset(_) => Ok(()),
    };
    places.iter().map(each).fold(Ok(()), io::Result::and)
}

impl<B: NetBackend> KernelHandler<B> {
    /// Acts by what is posted from now on, and by how the cable is.
    fn obey(&mut self) {
        let Self { end: InKernel { backend, vhost }, places, seat, card, .. } = self;
        seat.obey(|settings| {
            let active = seat.pair() < settings.pairs;
            if !card.link.is_up() {
                connect(vhost, places, None)?;
                return card.link.unless_lost(|| backend.set_active(active));
            }
            let header_len = NetHeader::len(card.features);
            let tally = card.counters.tally(seat.pair());
            // A pair that the driver has left receives nothing, but what it had for sending goes: Linux's TCP
            // waits for that, and its connection sends no more (`skb_still_in_host_queue`).
            let idle = usize::from(!active);
            card.link.unless_lost(|| {
                connect(vhost, &places[..idle], None)?;
                backend.set_active(active)?;
                backend.set_guest_offloads(settings.offloads)?;
                connect(vhost, &places[idle..], Some(backend.lend(header_len)?))?;
                for (place, effort) in places.iter().zip(tally.efforts()).skip(idle) {
                    if matches!(place, Place::Known(queue) if queue.is_alive()) {
                        effort.own_kicks.add(1);
                    }
                }
                Ok(())
            })
        });
    }
}

impl<B: NetBackend> Handler for KernelHandler<B> {
    fn sources(&self) -> Vec<Source> {
        let mut sources = vec![
            Source::readable(self.seat.bell(), NEWS),
            Source::readable(&*self.replugged, NEWS),
        ];
        for (place, token) in self.places.iter().zip(QUEUE..) {
            if let Place::Known(queue) = place {
                sources.extend(queue.sources(token));
            }
        }
        sources
    }

    fn begin(&mut self) {
        self.obey();
    }

    fn ready(&mut self, token: u32) {
        match token {
            NEWS => self.obey(),
            _ => {
                let Self { end: InKernel { backend, vhost }, places, card, .. } = self;
                if let Some(place) = places.get_mut((token - QUEUE) as usize) {
                    place.relay(vhost, || is_lost(backend, card));
                }
            }
        }
    }
}
