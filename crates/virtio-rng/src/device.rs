//! The control plane.

use std::sync::Arc;

use cubie_virtio_core::{
    Clock, Config, DeviceId, Features, HostClock, QueueState, Queues, RateLimit, StartError,
    Station, VirtioDevice,
};

use crate::EntropySource;
use crate::handler::RngHandler;
use crate::supply::Supply;

/// A driver has one buffer or two in the queue; more would only lengthen one turn of the worker.
const QUEUE_SIZES: [u16; 1] = [16];

/// An entropy device over the source `S`.
#[derive(Debug)]
pub struct Rng<S: EntropySource> {
    config: Config,
    clock: Arc<dyn Clock>,
    station: Station<Supply<S>, RngHandler<S>>,
}

impl<S: EntropySource> Rng<S> {
    /// A device that gives what `source` gives, as fast as the guest asks.
    pub fn new(source: S) -> Self {
        Self::over(Supply::new(source, None))
    }

    /// A device that gives no more than `limit`, in bytes, however often the guest starts it anew. Buffers
    /// wait in their ring for what is due to them; one that is larger than a burst gets a burst.
    pub fn limited(source: S, limit: RateLimit) -> Self {
        Self::over(Supply::new(source, Some(limit)))
    }

    fn over(supply: Supply<S>) -> Self {
        let (config, clock) = (Config::default(), Arc::new(HostClock::default()));
        Self { config, clock, station: Station::Parked(supply) }
    }

    /// The same device in the time of `clock`, which it has to be given before it starts.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }
}

impl<S: EntropySource> VirtioDevice for Rng<S> {
    fn id(&self) -> DeviceId {
        DeviceId::RNG
    }

    fn features(&self) -> Features {
        Features::default()
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn start(&mut self, _features: Features, mut queues: Queues) -> Result<(), StartError> {
        let (queue, timer) = (queues.take(0)?, self.clock.timer()?);
        let clock = self.clock.clone();
        let build = |supply| RngHandler::new(supply, queue, clock, timer);
        self.station.start("virtio-rng", build, |handler| handler.park().0)?;
        Ok(())
    }

    fn stop(&mut self) -> Vec<QueueState> {
        self.station.stop(RngHandler::park).into_iter().collect()
    }
}
