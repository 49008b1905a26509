//! From the host to the guest.

use std::sync::Arc;

use cubie_virtio_core::{Features, QueueState, Virtqueue};
use cubie_virtq::Room;

use crate::backend::Received;
use crate::counters::{Reason, Tally};
use crate::filter::{Filter, HEAD};
use crate::pair::Card;
use crate::protocol::{BESIDE_MTU, FRAME_LEN, MRG_RXBUF, MTU, receives_segments};
use crate::samples::Sampler;
use crate::settings::Settings;
use crate::{NetBackend, NetHeader};

/// Batches of frames that one turn receives: a host that sends without end must not keep the device from
/// being stopped.
const MOST_BATCHES: usize = 4;

/// A frame is taken to be as long as this, which is one of Ethernet, and one buffer of Linux's, until one was
/// longer, and again after so many that were not: each buffer that is lent costs us and the host something, also
/// if nothing comes into it.
const SHORT: usize = 1536;
const CALM: u16 = 256;

/// Receives frames into one queue.
#[derive(Debug)]
pub(crate) struct Receiver {
    queue: Virtqueue,
    /// Frames to come that long ones are expected among.
    busy: u16,
    /// Buffers for frames to come, taken from the queue.
    room: Room,
    /// A frame that has come, and waits for more buffers.
    held: Option<(NetHeader, usize)>,
    /// What the host may leave to the driver. Frames that ask it for more are dropped.
    offloads: Features,
    filter: Arc<Filter>,
    sampler: Sampler,
    card: Card,
    pair: u16,
}

impl Receiver {
    /// Frames into `queue`. Nothing is left to the driver yet.
    pub(crate) fn new(queue: Virtqueue, filter: Arc<Filter>, card: Card, pair: u16) -> Self {
        let merges = card.features.has(MRG_RXBUF);
        let room = if merges { Room::with_spare(longest(&card)) } else { Room::default() };
        let (offloads, sampler) = (Features::default(), Sampler::default());
        Self { queue, busy: 0, room, held: None, offloads, filter, sampler, card, pair }
    }

    /// From now on the driver wants what `settings` say, and takes that over.
    pub(crate) fn obey(&mut self, settings: &Settings) {
        self.offloads = settings.offloads;
        self.filter = Arc::clone(&settings.filter);
    }

    /// How far the queue has got. Frames are at the host, but for one that waits for buffers: it is lost.
    pub(crate) fn park(mut self) -> (u16, QueueState) {
        self.room.give_back(&mut self.queue);
        self.queue.hold_interrupts(None);
        if self.held.is_some() {
            self.tally().drop(Reason::Length);
        }
        (self.queue.index(), self.queue.state())
    }

    pub(crate) fn queue(&self) -> &Virtqueue {
        &self.queue
    }

    pub(crate) fn queue_mut(&mut self) -> &mut Virtqueue {
        &mut self.queue
    }

    /// Whether frames wait until the driver has more buffers.
    pub(crate) fn is_waiting(&self) -> bool {
        self.held.is_some() || self.room.is_empty()
    }

    /// Frames go into the guest's buffers as long as there are both.
    pub(crate) fn receive(&mut self, backend: &mut impl NetBackend) {
        let Self { sampler, card, pair, .. } = self;
        sampler.begin(&card.counters.tally(*pair).receive.frames);
        let more = (0..MOST_BATCHES).all(|_| {
            let more = (0..self.queue.size()).all(|_| self.receive_frame(backend));
            self.sampler.signal(|| self.queue.signal());
            more
        });
        if more {
            // Frames may be left, but other events have their turn first.
            self.queue.kick_itself();
        }
        let Self { queue, room, sampler, card, pair, .. } = self;
        let tally = &card.counters.tally(*pair).receive;
        tally.effort.turn(queue.take_signals(), room.take_copied());
        sampler.end(&tally.effort.samples, &tally.frames);
    }

    /// Receives one frame, or drops it, or gives back a buffer that is for none. `false` if none of these can
    /// be done now.
    fn receive_frame(&mut self, backend: &mut impl NetBackend) -> bool {
        if let Some((header, len)) = self.held.take() {
            return self.deliver(header, len);
        }
        if !self.make_room(0) {
            self.tally().effort.starved.add(1);
            return false;
        }
        let effort = &self.card.counters.tally(self.pair).receive.effort;
        let Some(mut rest) = self.room.lend(NetHeader::len(self.card.features)) else {
            // No buffer for a frame at all.
            effort.more_chains.add(self.room.push(&mut self.queue, 0) as u64);
            return true;
        };
        let (room, mut header) = (rest.len(), NetHeader::default());
        let received = self.sampler.call(&effort.samples, || backend.recv(&mut header, &mut rest));
        let received = received.unwrap_or_else(|error| {
            if !self.card.link.is_lost_by(&error) {
                tracing::debug!(%error, "the host receives nothing");
            }
            Received::Nothing
        });
        let checked = match received {
            Received::Nothing => {
                effort.empty_calls.add(1);
                return false;
            }
            Received::Lost => Err(Reason::Length),
            // Nobody knows where that is.
            Received::Frame(len) if len > room => Err(Reason::Length),
            Received::Frame(len) => self.check(header, len).map(|header| (header, len)),
        };
        match checked {
            Ok((header, len)) => {
                let delivered = self.deliver(header, len);
                if !delivered {
                    self.tally().effort.held.add(1);
                }
                delivered
            }
            Err(reason) => {
                // The buffers are for the next frame.
                self.tally().drop(reason);
                true
            }
        }
    }

    /// Takes buffers for the longest frame that is expected if there are so many; `false` if there are not even
    /// `least` bytes, and the guest will kick when there are more.
    fn make_room(&mut self, least: usize) -> bool {
        let Self { queue, busy, room, card, .. } = self;
        let (most, wanted) = match (card.features.has(MRG_RXBUF), *busy) {
            (true, 0) => (usize::MAX, SHORT),
            (true, _) => (usize::MAX, longest(card)),
            (false, _) => (1, 1),
        };
        loop {
            room.fill(queue, wanted.max(least), most);
            // A buffer may be there that has not a byte.
            if !room.is_empty() && room.settle(least) {
                return true;
            }
            if !queue.look_again() {
                return false;
            }
        }
    }

    /// The header of a frame of `len` bytes that has come into the room, as the guest may see it, or why it
    /// must not see the frame.
    fn check(&mut self, header: NetHeader, len: usize) -> Result<NetHeader, Reason> {
        let Self { room, card, offloads, filter, .. } = self;
        if !card.link.is_up() {
            return Err(Reason::LinkDown);
        }
        let header = header.for_guest(*offloads).ok_or(Reason::Header)?;
        let mtu = card.mtu.filter(|_| card.features.has(MTU) && !header.has_segments());
        let most = mtu.map_or(*FRAME_LEN.end(), |mtu| usize::from(mtu) + BESIDE_MTU);
        if len > most {
            return Err(Reason::Length);
        }
        if !filter.is_open() {
            let mut head = [0; HEAD];
            room.peek(NetHeader::len(card.features), &mut head[..len.min(HEAD)]);
            filter.wants(&head).then_some(()).ok_or(Reason::Filtered)?;
        }
        Ok(header)
    }

    /// Gives the guest a frame of `len` bytes that has come into the room; `false` if it has to wait for more
    /// buffers.
    fn deliver(&mut self, header: NetHeader, len: usize) -> bool {
        let header_len = NetHeader::len(self.card.features);
        let whole = header_len + len;
        self.busy = if whole > SHORT { CALM } else { self.busy.saturating_sub(1) };
        if !self.make_room(whole) {
            if self.room.chains() >= self.queue.size().into() {
                // The guest has no more, so it would wait for ever.
                self.tally().drop(Reason::Length);
                return true;
            }
            self.held = Some((header, len));
            return false;
        }
        let num_buffers = self.room.count(whole) as u16;
        let bytes = NetHeader { num_buffers, ..header }.to_bytes();
        self.room.header().write(&bytes[..header_len]);
        let chains = self.room.push(&mut self.queue, whole);
        let tally = self.tally();
        if chains > 1 {
            tally.effort.more_chains.add(chains as u64 - 1);
        }
        tally.pass(len);
        true
    }

    fn tally(&self) -> &Tally {
        &self.card.counters.tally(self.pair).receive
    }
}

/// Bytes of the longest frame that the host may have for the guest, and of its header.
fn longest(card: &Card) -> usize {
    let frame = match card.mtu {
        Some(mtu) if card.features.has(MTU) && !receives_segments(card.features) => {
            usize::from(mtu) + BESIDE_MTU
        }
        _ => *FRAME_LEN.end(),
    };
    NetHeader::LEN + frame
}
