//! The control plane.

use cubie_virtio_core::{
    Config, DeviceId, Features, QueueState, Queues, StartError, Station, VirtioDevice,
};

use crate::EntropySource;
use crate::handler::RngHandler;

/// A driver has one buffer or two in the queue; more would only lengthen one turn of the worker.
const QUEUE_SIZES: [u16; 1] = [16];

/// An entropy device over the source `S`.
#[derive(Debug)]
pub struct Rng<S: EntropySource> {
    config: Config,
    station: Station<S, RngHandler<S>>,
}

impl<S: EntropySource> Rng<S> {
    /// A device that gives what `source` gives.
    pub fn new(source: S) -> Self {
        let (config, station) = (Config::default(), Station::Parked(source));
        Self { config, station }
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
        let queue = queues.take(0)?;
        let build = |source| RngHandler::new(source, queue);
        self.station.start("virtio-rng", build, |handler| handler.park().0)?;
        Ok(())
    }

    fn stop(&mut self) -> Vec<QueueState> {
        self.station.stop(RngHandler::park).into_iter().collect()
    }
}
