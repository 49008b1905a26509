//! Data plane: two queues between kick and interrupt.

use std::io::ErrorKind::WouldBlock;

use cubie_virtio_core::{Features, Handler, QueueState, Source, Virtqueue};
use cubie_virtq::{Chain, Serve};

use crate::backend::Received;
use crate::protocol::FRAME_LEN;
use crate::{Drops, NetBackend, NetHeader};

const RECEIVE_KICK: u32 = 0;
const TRANSMIT_KICK: u32 = 1;
const HOST: u32 = 2;

/// Serves one pair of queues.
#[derive(Debug)]
pub(crate) struct NetHandler<B> {
    backend: B,
    receive: Virtqueue,
    transmit: Virtqueue,
    features: Features,
    drops: Drops,
    /// The host had no room for a frame: it is the next one in the ring still.
    waiting: bool,
}

impl<B: NetBackend> NetHandler<B> {
    pub(crate) fn new(
        backend: B,
        receive: Virtqueue,
        transmit: Virtqueue,
        features: Features,
        drops: Drops,
    ) -> Self {
        Self { backend, receive, transmit, features, drops, waiting: false }
    }

    /// The host end, and how far the queues have got. Frames are in the rings or at the host, never
    /// here.
    pub(crate) fn park(self) -> (B, Vec<QueueState>) {
        let Self { backend, receive, transmit, features: _, drops: _, waiting: _ } = self;
        (backend, vec![receive.state(), transmit.state()])
    }

    /// Frames go into the guest's buffers as long as there are both.
    fn receive(&mut self) {
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
        let Self { backend, transmit, features, drops, waiting, .. } = self;
        *waiting = false;
        transmit.drain(|mut chain| {
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

impl<B: NetBackend> Handler for NetHandler<B> {
    fn sources(&self) -> Vec<Source> {
        vec![
            Source::readable(self.receive.kick(), RECEIVE_KICK),
            Source::readable(self.transmit.kick(), TRANSMIT_KICK),
            Source::read_write(&self.backend.ready_fd(), HOST),
        ]
    }

    fn ready(&mut self, token: u32) {
        match token {
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
