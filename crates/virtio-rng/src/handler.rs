//! The data plane.

use std::sync::Arc;

use cubie_virtio_core::{Clock, Handler, QueueState, Source, Timer, Virtqueue};
use cubie_virtq::Serve;

use crate::EntropySource;
use crate::supply::Supply;

/// The driver's kick.
const KICK: u32 = 0;
/// A buffer that had to wait gets its bytes now.
const TIMER: u32 = 1;

#[derive(Debug)]
pub(crate) struct RngHandler<S> {
    supply: Supply<S>,
    queue: Virtqueue,
    clock: Arc<dyn Clock>,
    timer: Box<dyn Timer>,
}

impl<S: EntropySource> RngHandler<S> {
    pub(crate) fn new(
        supply: Supply<S>,
        queue: Virtqueue,
        clock: Arc<dyn Clock>,
        timer: Box<dyn Timer>,
    ) -> Self {
        Self { supply, queue, clock, timer }
    }

    /// What outlives the worker. A buffer that waits does so in its ring, so that none is in flight.
    pub(crate) fn park(self) -> (Supply<S>, QueueState) {
        (self.supply, self.queue.state())
    }
}

impl<S: EntropySource> Handler for RngHandler<S> {
    fn sources(&self) -> Vec<Source> {
        vec![
            Source::readable(self.queue.kick(), KICK),
            Source::readable(&self.timer.as_fd(), TIMER),
        ]
    }

    fn ready(&mut self, _token: u32) {
        let Self { supply, queue, clock, timer } = self;
        let now = clock.now();
        queue.drain(|mut chain| match supply.fill(&mut chain.writable(), now) {
            Ok(written) => Serve::Done(chain, written),
            Err(due) => {
                timer.set(due);
                Serve::Stop(chain)
            }
        });
    }
}
