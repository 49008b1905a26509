//! Control plane: identity, configuration, start and stop.

use cubie_virtio_core::{
    Config, DeviceId, Features, QueueState, Queues, StartError, Station, VirtioDevice,
};

use crate::handler::NetHandler;
use crate::protocol::{self, FEATURES, RECEIVE, TRANSMIT};
use crate::{Drops, Mac, NetBackend};

/// Chains that fit into each queue.
const QUEUE_SIZE: u16 = 256;

/// The virtio network card, with one pair of queues.
pub struct Net<B: NetBackend> {
    config: Config,
    offloads: Features,
    drops: Drops,
    station: Station<B, NetHandler<B>>,
}

impl<B: NetBackend> Net<B> {
    /// A card with the address `mac` whose cable ends in `backend`.
    pub fn new(backend: B, mac: Mac) -> Self {
        Self {
            config: Config::new(protocol::config(mac)),
            offloads: protocol::offloads(backend.offloads()),
            drops: Drops::default(),
            station: Station::Parked(backend),
        }
    }

    /// A handle on the counters of frames that were dropped.
    pub fn drops(&self) -> Drops {
        self.drops.clone()
    }
}

impl<B: NetBackend> VirtioDevice for Net<B> {
    fn id(&self) -> DeviceId {
        DeviceId::NET
    }

    fn features(&self) -> Features {
        FEATURES.with(self.offloads)
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE; 2]
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn start(&mut self, features: Features, mut queues: Queues) -> Result<(), StartError> {
        let (receive, transmit) = (queues.take(RECEIVE)?, queues.take(TRANSMIT)?);
        let drops = self.drops.clone();
        self.station.start(
            "virtio-net",
            |backend| NetHandler::new(backend, receive, transmit, features, drops),
            |handler| handler.park().0,
        )?;
        Ok(())
    }

    fn stop(&mut self) -> Vec<QueueState> {
        self.station.stop(NetHandler::park).unwrap_or_default()
    }
}
