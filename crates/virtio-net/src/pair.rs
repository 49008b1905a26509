//! Data plane: one pair of queues between kick and interrupt.

use std::io::{self, ErrorKind::WouldBlock};

use cubie_virtio_core::{Features, Handler, QueueState, Source, Virtqueue};
use cubie_virtq::{Chain, Serve};

use crate::backend::Received;
use crate::board::Seat;
use crate::parts::Pair;
use crate::protocol::FRAME_LEN;
use crate::settings::Settings;
use crate::{Drops, NetBackend, NetHeader};

const NEWS: u32 = 0;
const RECEIVE_KICK: u32 = 1;
const TRANSMIT_KICK: u32 = 2;
const HOST: u32 = 3;

/// Serves one pair of queues.
#[derive(Debug)]
pub(crate) struct PairHandler<B> {
    backend: B,
    receive: Virtqueue,
    transmit: Virtqueue,
    seat: Seat,
    features: Features,
    drops: Drops,
    /// The driver uses the pair. If not, it is sent nothing, and what it sends all the same is dropped.
    active: bool,
    /// The host had no room for a frame: it is the next one in the ring still.
    waiting: bool,
}

impl<B: NetBackend> PairHandler<B> {
    /// Serves `pair` for a driver that has negotiated `features`. The host end is in use until the first
    /// look at what is posted, before which nothing passes.
    pub(crate) fn new(
        backend: B,
        pair: Pair,
        seat: Seat,
        features: Features,
        drops: Drops,
    ) -> Self {
        let Pair { receive, transmit } = pair;
        Self { backend, receive, transmit, seat, features, drops, active: false, waiting: false }
    }

    /// The host end, and how far the queues have got. Frames are in the rings or at the host, never
    /// here.
    pub(crate) fn park(self) -> (B, [(u16, QueueState); 2]) {
        let Self { backend, receive, transmit, .. } = self;
        (backend, [receive, transmit].map(|queue| (queue.index(), queue.state())))
    }

    /// Acts by what is posted from now on.
    fn obey(&mut self) {
        let Self { backend, seat, active, .. } = self;
        seat.obey(|settings| act(settings, seat.pair(), backend, active));
    }

    /// Frames go into the guest's buffers as long as there are both.
    fn receive(&mut self) {
        if !self.active {
            return;
        }
        let Self { backend, receive, features, drops, .. } = self;
        let header_len = NetHeader::len(*features);
        let mut lost = false;
        receive.drain(|mut chain| {
            let received = receive_frame(backend, &mut chain, header_len);
            match received {
                Some(Received::Frame(len)) => Serve::Done(chain, (header_len + len) as u32),
                Some(Received::Nothing) => Serve::Stop(chain),
                Some(Received::Lost) => {
                    drops.count_receive();
                    lost = true;
                    // The buffer is for the next frame.
                    Serve::Stop(chain)
                }
                // No buffer for a frame at all.
                None => Serve::Done(chain, 0),
            }
        });
        if lost {
            // Frames may be left, but other events have their turn first. The counter of an eventfd
            // cannot overflow by ones.
            let _ = receive.kick().write(1);
        }
    }

    /// The guest's frames go to the host as long as it has room.
    fn transmit(&mut self) {
        let Self { backend, transmit, features, drops, active, waiting, .. } = self;
        *waiting = false;
        transmit.drain(|mut chain| {
            if !*active {
                drops.count_transmit();
                return Serve::Done(chain, 0);
            }
            match send_frame(backend, &mut chain, *features) {
                Sent::Frame => {}
                Sent::Nothing => {
                    *waiting = true;
                    return Serve::Stop(chain);
                }
                Sent::Lost => drops.count_transmit(),
            }
            Serve::Done(chain, 0)
        });
    }
}

fn act<B: NetBackend>(
    settings: &Settings,
    pair: u16,
    backend: &mut B,
    active: &mut bool,
) -> io::Result<()> {
    *active = pair < settings.pairs;
    backend.set_active(*active)
}

enum Sent {
    Frame,
    Nothing,
    Lost,
}

/// Sends the chain's frame, or decides that nobody should.
fn send_frame<B: NetBackend>(backend: &mut B, chain: &mut Chain, features: Features) -> Sent {
    let frame = chain.readable();
    let mut header = [0; NetHeader::LEN];
    let header_len = NetHeader::len(features);
    let whole = frame.read(&mut header[..header_len]) == header_len;
    let header = whole.then(|| NetHeader::from_bytes(header));
    let header = header.and_then(|header| header.for_host(features));
    let Some(header) = header.filter(|_| FRAME_LEN.contains(&frame.len())) else {
        tracing::debug!("the guest's frame is malformed");
        return Sent::Lost;
    };
    match backend.send(&header, frame) {
        Ok(()) => Sent::Frame,
        Err(error) if error.kind() == WouldBlock => Sent::Nothing,
        Err(error) => {
            tracing::debug!(%error, "the host refuses the guest's frame");
            Sent::Lost
        }
    }
}

/// Receives a frame into the chain; `None` when it has no room for a header of `header_len` bytes.
fn receive_frame<B: NetBackend>(
    backend: &mut B,
    chain: &mut Chain,
    header_len: usize,
) -> Option<Received> {
    chain.reserve_header(header_len).then_some(())?;
    let mut header = NetHeader::default();
    let received = match backend.recv(&mut header, chain.writable()) {
        Ok(received) => received,
        Err(error) => {
            tracing::debug!(%error, "the host receives nothing");
            Received::Nothing
        }
    };
    let Received::Frame(_) = received else { return Some(received) };
    let Some(header) = header.for_guest() else { return Some(Received::Lost) };
    chain.header().write(&header.to_bytes()[..header_len]);
    Some(received)
}

impl<B: NetBackend> Handler for PairHandler<B> {
    fn sources(&self) -> Vec<Source> {
        vec![
            Source::readable(self.seat.bell(), NEWS),
            Source::readable(self.receive.kick(), RECEIVE_KICK),
            Source::readable(self.transmit.kick(), TRANSMIT_KICK),
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
                if self.waiting {
                    self.transmit();
                }
            }
        }
    }
}
