//! From the guest to the host.

use std::io::{self, ErrorKind::WouldBlock};

use cubie_virtio_core::{QueueState, Virtqueue};
use cubie_virtq::{Chain, Segments, Serve};

use crate::counters::Reason;
use crate::pair::Card;
use crate::protocol::FRAME_LEN;
use crate::samples::Sampler;
use crate::{NetBackend, NetHeader};

/// Sends the frames of one queue.
#[derive(Debug)]
pub(crate) struct Transmitter {
    queue: Virtqueue,
    /// The host had no room for a frame: it is the next one in the ring still.
    waiting: bool,
    sampler: Sampler,
    card: Card,
    pair: u16,
}

impl Transmitter {
    pub(crate) fn new(queue: Virtqueue, card: Card, pair: u16) -> Self {
        Self { queue, waiting: false, sampler: Sampler::default(), card, pair }
    }

    /// How far the queue has got. Frames are in the ring or gone.
    pub(crate) fn park(mut self) -> (u16, QueueState) {
        self.queue.hold_interrupts(None);
        (self.queue.index(), self.queue.state())
    }

    pub(crate) fn queue(&self) -> &Virtqueue {
        &self.queue
    }

    pub(crate) fn queue_mut(&mut self) -> &mut Virtqueue {
        &mut self.queue
    }

    /// Whether frames wait until the host has room.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// The guest's frames go to the host as long as it has room; those in a pair that the driver does not use
    /// go nowhere.
    pub(crate) fn transmit(&mut self, backend: &mut impl NetBackend, active: bool) {
        let Self { queue, waiting, sampler, card, pair } = self;
        let tally = &card.counters.tally(*pair).transmit;
        *waiting = false;
        sampler.begin(&tally.frames);
        queue.drain(|mut chain| {
            let sent = match (active, card.link.is_up()) {
                (false, _) => Err(Reason::Inactive),
                (_, false) => Err(Reason::LinkDown),
                (true, true) => send(&mut chain, card, |header, frame| {
                    let samples = &tally.effort.samples;
                    sampler.call(samples, || backend.send(header, frame))
                }),
            };
            match sent {
                Ok(Some(len)) => tally.pass(len),
                Ok(None) => {
                    *waiting = true;
                    tally.effort.empty_calls.add(1);
                    return Serve::Stop(chain);
                }
                Err(reason) => tally.drop(reason),
            }
            Serve::Done(chain, 0)
        });
        let signals = queue.take_signals();
        if signals.interrupts > 0 {
            sampler.signalled();
        }
        tally.effort.turn(signals, 0);
        sampler.end(&tally.effort.samples, &tally.frames);
    }
}

/// Sends the chain's frame by `host`; its length, or `None` while there is no room for it, or why nobody should.
fn send(
    chain: &mut Chain,
    card: &Card,
    host: impl FnOnce(&NetHeader, &mut Segments) -> io::Result<()>,
) -> Result<Option<usize>, Reason> {
    let mut frame = chain.readable();
    let mut header = [0; NetHeader::LEN];
    let header_len = NetHeader::len(card.features);
    let whole = frame.read(&mut header[..header_len]) == header_len;
    let len = frame.len();
    if !whole || !FRAME_LEN.contains(&len) {
        tracing::debug!(len, "the guest's frame is malformed");
        return Err(Reason::Length);
    }
    let header = NetHeader::from_bytes(header).for_host(card.features).ok_or(Reason::Header)?;
    match host(&header, &mut frame) {
        Ok(()) => Ok(Some(len)),
        Err(error) if error.kind() == WouldBlock => Ok(None),
        Err(error) if card.link.is_lost_by(&error) => Err(Reason::LinkDown),
        Err(error) => {
            tracing::debug!(%error, "the host refuses the guest's frame");
            Err(Reason::Refused)
        }
    }
}
