//! Data plane: one pair of queues between kick and interrupt.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cubie_virtio_core::{
    Clock, Features, Handler, Idle, QueueState, Source, StartError, Virtqueue,
};

use crate::board::Seat;
use crate::pacer::Pacer;
use crate::parts::Pair;
use crate::poller::Poller;
use crate::protocol::{NOTF_COAL, VQ_NOTF_COAL};
use crate::receive::Receiver;
use crate::samples::{ThreadClock, nanos};
use crate::transmit::Transmitter;
use crate::workers::HostEnd;
use crate::{Counters, Link, NetBackend};

const NEWS: u32 = 0;
const RECEIVE_KICK: u32 = 1;
const TRANSMIT_KICK: u32 = 2;
const HOST: u32 = 3;
const TIMER: u32 = 4;

/// Looks at the rings between two at the sources: together a microsecond or so.
const LOOKS: usize = 32;

/// What a pair has in common with its card.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    /// What the driver has negotiated.
    pub(crate) features: Features,
    /// Bytes of payload in a frame that need not be cut, if the driver can be told.
    pub(crate) mtu: Option<u16>,
    pub(crate) link: Link,
    pub(crate) counters: Counters,
    pub(crate) clock: Arc<dyn Clock>,
    /// For how long a pair looks by itself before it sleeps, at most.
    pub(crate) polling: Option<Duration>,
    /// It was told that the host does not do what a driver has asked for.
    pub(crate) complained: Arc<AtomicBool>,
}

/// Serves one pair of queues.
#[derive(Debug)]
pub(crate) struct PairHandler<B> {
    backend: B,
    receiver: Receiver,
    transmitter: Transmitter,
    /// If the driver may have interrupts wait.
    pacer: Option<Pacer>,
    /// If it looks by itself.
    poller: Option<Poller>,
    seat: Seat,
    link: Link,
    counters: Counters,
    clock: ThreadClock,
    /// What the host end was told that it may leave to the driver; an earlier driver's is not known here.
    offloads: Option<Features>,
    /// The driver uses the pair. If not, it is sent nothing, and what it sends all the same is dropped.
    active: bool,
}

impl<B: NetBackend> HostEnd for B {
    type Queue = Virtqueue;
    type Ready = (Pair<Virtqueue>, Option<Pacer>);
    type Server = PairHandler<B>;

    /// The host end is in use until the first look at what is posted, before which nothing passes.
    fn prepare(&mut self, pair: Pair<Virtqueue>, card: &Card) -> Result<Self::Ready, StartError> {
        let waits = card.features.and(NOTF_COAL.with(VQ_NOTF_COAL)) != Features(0);
        let pacer = waits.then(|| Pacer::new(card.clock.clone())).transpose()?;
        card.link.unless_lost(|| self.set_active(true))?;
        Ok((pair, pacer))
    }

    fn serve(self, (pair, pacer): Self::Ready, seat: Seat, card: Card) -> PairHandler<B> {
        let (filter, link) = (seat.settings().filter, card.link.clone());
        let counters = card.counters.clone();
        let tally = counters.tally(seat.pair());
        tally.receive.effort.kicks.begin(pair.receive.kick());
        tally.transmit.effort.kicks.begin(pair.transmit.kick());
        let poller = card.polling.map(|most| Poller::new(card.clock.clone(), most));
        let receiver = Receiver::new(pair.receive, filter, card.clone(), seat.pair());
        let transmitter = Transmitter::new(pair.transmit, card, seat.pair());
        let (backend, offloads, active) = (self, None, false);
        let clock = ThreadClock::default();
        PairHandler {
            backend,
            receiver,
            transmitter,
            pacer,
            poller,
            seat,
            link,
            counters,
            clock,
            offloads,
            active,
        }
    }

    fn park(server: PairHandler<B>) -> (Self, [(u16, QueueState); 2]) {
        let PairHandler { backend, receiver, transmitter, seat, counters, .. } = server;
        let tally = counters.tally(seat.pair());
        tally.receive.effort.kicks.end();
        tally.transmit.effort.kicks.end();
        (backend, [receiver.park(), transmitter.park()])
    }
}

impl<B: NetBackend> PairHandler<B> {
    /// Acts by what is posted from now on.
    fn obey(&mut self) {
        let Self { backend, receiver, transmitter, pacer, seat, link, offloads, active, .. } = self;
        seat.obey(|settings| {
            *active = seat.pair() < settings.pairs;
            link.unless_lost(|| {
                backend.set_active(*active)?;
                if *active && *offloads != Some(settings.offloads) {
                    backend.set_guest_offloads(settings.offloads)?;
                    *offloads = Some(settings.offloads);
                }
                Ok(())
            })?;
            receiver.obey(settings);
            if let Some(pacer) = pacer {
                let queues = [receiver.queue_mut(), transmitter.queue_mut()];
                let moderations = [0, 1].map(|n| settings.coalescing.of(2 * seat.pair() + n));
                pacer.obey(queues, moderations);
            }
            Ok(())
        });
    }

    /// The thread's time is looked at from time to time, when it is woken or finds something.
    fn count_time(&mut self) {
        let tally = self.counters.tally(self.seat.pair());
        if self.clock.woken(&tally.worker)
            && let Some(poller) = &mut self.poller
        {
            tally.in_vain.add(nanos(poller.take_in_vain()));
        }
    }

    fn count_wakeup(&mut self, token: u32) {
        self.count_time();
        let tally = self.counters.tally(self.seat.pair());
        match token {
            RECEIVE_KICK => tally.receive.effort.woken_by_kicks.add(1),
            TRANSMIT_KICK => tally.transmit.effort.woken_by_kicks.add(1),
            HOST => tally.receive.effort.woken_by_host.add(1),
            _ => {}
        }
    }

    fn receive(&mut self) {
        if self.active {
            self.receiver.receive(&mut self.backend);
        }
    }

    fn transmit(&mut self) {
        self.transmitter.transmit(&mut self.backend, self.active);
    }

    /// Sees to interrupts that wait.
    fn pace(&mut self) {
        if let Some(pacer) = &mut self.pacer {
            pacer.look([self.receiver.queue_mut(), self.transmitter.queue_mut()]);
        }
    }

    fn want_kicks(&mut self, wanted: bool) {
        for queue in [self.receiver.queue_mut(), self.transmitter.queue_mut()] {
            queue.want_kicks(wanted);
        }
    }

    /// Serves what the driver has made available, without a kick. `false` if there was nothing.
    fn look(&mut self) -> bool {
        let Self { receiver, transmitter, active, .. } = self;
        let sends = !transmitter.is_waiting() && transmitter.queue_mut().look_again();
        let receives = *active && receiver.is_waiting() && receiver.queue_mut().look_again();
        if sends {
            self.transmit();
        }
        if receives {
            self.receive();
        }
        if sends || receives {
            self.pace();
        }
        sends || receives
    }
}

impl<B: NetBackend> Handler for PairHandler<B> {
    fn sources(&self) -> Vec<Source> {
        let mut sources = vec![
            Source::readable(self.seat.bell(), NEWS),
            Source::readable(self.receiver.queue().kick(), RECEIVE_KICK),
            Source::readable(self.transmitter.queue().kick(), TRANSMIT_KICK),
            Source::read_write(&self.backend.ready_fd(), HOST),
        ];
        sources.extend(self.pacer.iter().map(|pacer| pacer.source(TIMER)));
        sources
    }

    fn begin(&mut self) {
        self.obey();
    }

    fn ready(&mut self, token: u32) {
        self.count_wakeup(token);
        match token {
            NEWS => {
                self.obey();
                // What waited for this.
                self.receive();
                self.transmit();
            }
            RECEIVE_KICK => self.receive(),
            TRANSMIT_KICK => self.transmit(),
            TIMER => self.pacer.iter_mut().for_each(Pacer::rang),
            _ => {
                self.backend.ready();
                self.receive();
                if self.transmitter.is_waiting() {
                    self.transmit();
                }
            }
        }
        self.pace();
        if matches!(token, RECEIVE_KICK | TRANSMIT_KICK | HOST)
            && let Some(poller) = &mut self.poller
        {
            poller.worked();
        }
    }

    fn idle(&mut self) -> Idle {
        let Some(poller) = &mut self.poller else { return Idle::Sleep };
        let (goes_on, looked) = (poller.goes_on(), poller.looks);
        poller.looks = goes_on;
        if goes_on != looked {
            self.want_kicks(!goes_on);
        }
        if goes_on {
            let found = (0..LOOKS).any(|_| {
                self.look() || {
                    spin_loop();
                    false
                }
            });
            if found {
                self.count_time();
                self.poller.iter_mut().for_each(Poller::worked);
            }
            return Idle::Look;
        }
        if looked {
            // What has come meanwhile is served now, and what comes from here on kicks.
            self.receive();
            self.transmit();
            self.pace();
        }
        Idle::Sleep
    }
}
