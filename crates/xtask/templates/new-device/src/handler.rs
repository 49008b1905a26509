//! The data plane: one thread, the queue, the host end.

use cubie_virtio_core::{Handler, QueueState, Source, Virtqueue};
use cubie_virtq::{Segments, Serve};

use crate::NewDeviceBackend;
use crate::protocol::{Answer, Request};

/// The only event: the driver's kick.
const KICK: u32 = 0;

#[derive(Debug)]
pub(crate) struct NewDeviceHandler<B> {
    backend: B,
    limit: u32,
    requests: Virtqueue,
    /// The host failed last time: said once.
    failing: bool,
}

impl<B: NewDeviceBackend> NewDeviceHandler<B> {
    pub(crate) fn new(backend: B, limit: u32, requests: Virtqueue) -> Self {
        Self { backend, limit, requests, failing: false }
    }

    /// What outlives the worker, and how far each queue has got.
    pub(crate) fn park(self) -> (B, Vec<QueueState>) {
        (self.backend, vec![self.requests.state()])
    }
}

impl<B: NewDeviceBackend> Handler for NewDeviceHandler<B> {
    fn sources(&self) -> Vec<Source> {
        vec![Source::readable(self.requests.kick(), KICK)]
    }

    fn ready(&mut self, _token: u32) {
        let Self { backend, limit, requests, failing } = self;
        requests.drain(|mut chain| {
            let (mut request, mut room) = chain.split();
            let answer = match checked(&mut request, &room, *limit) {
                Some(request) => carry_out(backend, request, failing),
                None => Answer::Refused,
            };
            let written = room.write(&answer.to_bytes()) as u32;
            Serve::Done(chain, written)
        });
    }
}

/// The request, if it makes sense: copied out of guest memory once, then checked, then used.
fn checked(request: &mut Segments, room: &Segments, limit: u32) -> Option<Request> {
    let request = request.read_array().map(Request::from_bytes)?;
    (request.amount <= limit && room.len() >= Answer::LEN).then_some(request)
}

fn carry_out(backend: &mut impl NewDeviceBackend, request: Request, failing: &mut bool) -> Answer {
    let result = backend.add(request.amount);
    if let Err(error) = &result
        && !*failing
    {
        tracing::warn!(%error, "the host fails a NewDevice");
    }
    *failing = result.is_err();
    result.map_or(Answer::HostError, Answer::Total)
}
