//! The control plane: identity, configuration, start and stop.

use cubie_virtio_core::{
    Config, DeviceId, Features, QueueState, Queues, StartError, Station, VirtioDevice,
};

use crate::NewDeviceBackend;
use crate::handler::NewDeviceHandler;
use crate::protocol::{Configuration, ID, REQUESTS};

/// Descriptors of each queue, the largest number that a driver may choose.
const QUEUE_SIZES: [u16; 1] = [64];

/// A total over the host end `B`.
#[derive(Debug)]
pub struct NewDevice<B: NewDeviceBackend> {
    config: Config,
    limit: u32,
    station: Station<B, NewDeviceHandler<B>>,
}

impl<B: NewDeviceBackend> NewDevice<B> {
    /// A device whose driver may add up to `limit` at once.
    pub fn new(backend: B, limit: u32) -> Self {
        let config = Config::new(Configuration { limit }.to_bytes());
        Self { config, limit, station: Station::Parked(backend) }
    }
}

impl<B: NewDeviceBackend> VirtioDevice for NewDevice<B> {
    fn id(&self) -> DeviceId {
        ID
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
        let (limit, requests) = (self.limit, queues.take(REQUESTS)?);
        let build = |backend| NewDeviceHandler::new(backend, limit, requests);
        self.station.start("virtio-new-device", build, |handler| handler.park().0)?;
        Ok(())
    }

    fn stop(&mut self) -> Vec<QueueState> {
        self.station.stop(NewDeviceHandler::park).unwrap_or_default()
    }
}
