//! The control plane.

use cubie_virtio_core::{
    Config, DeviceId, Features, QueueState, Queues, RestoreError, StartError, Station, VirtioDevice,
};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
};

use crate::handler::{BlkHandler, Complaints};
use crate::protocol::config_space;
use crate::{BlockBackend, Serial};

const QUEUE_SIZE: u16 = 256;
const QUEUE_SIZES: [u16; 1] = [QUEUE_SIZE];
/// First byte of a saved disk; its size follows.
const VERSION: u8 = 1;
/// Buffers of payload a request: a chain is no longer than the queue, and begins with the header and
/// ends with the status.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;

/// A block device over the backend `B`.
#[derive(Debug)]
pub struct Blk<B: BlockBackend> {
    config: Config,
    features: Features,
    serial: Serial,
    complaints: Complaints,
    station: Station<B, BlkHandler<B>>,
}

impl<B: BlockBackend> Blk<B> {
    /// A disk of the backend's size, read-only if the backend is.
    pub fn new(backend: B, serial: Serial) -> Self {
        let mut features = Features::bit(VIRTIO_BLK_F_FLUSH)
            .with(Features::bit(VIRTIO_BLK_F_SEG_MAX))
            .with(Features::bit(VIRTIO_BLK_F_BLK_SIZE));
        if backend.is_read_only() {
            features = features.with(Features::bit(VIRTIO_BLK_F_RO));
        }
        Self {
            config: Config::new(config_space(backend.size(), SEG_MAX)),
            features,
            serial,
            complaints: Complaints::default(),
            station: Station::Parked(backend),
        }
    }
}

impl<B: BlockBackend> VirtioDevice for Blk<B> {
    fn id(&self) -> DeviceId {
        DeviceId::BLOCK
    }

    fn features(&self) -> Features {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn start(&mut self, features: Features, mut queues: Queues) -> Result<(), StartError> {
        let queue = queues.take(0)?;
        // A driver that cannot flush expects every write to last (VIRTIO 1.4 §5.2.6.2).
        let through = !features.has_bit(VIRTIO_BLK_F_FLUSH);
        let (serial, complaints) = (self.serial, self.complaints.clone());
        let build = |backend| BlkHandler::new(backend, queue, serial, through, complaints);
        self.station.start("virtio-blk", build, |handler| handler.park().0)?;
        Ok(())
    }

    fn stop(&mut self) -> Vec<QueueState> {
        self.station.stop(BlkHandler::park).into_iter().collect()
    }

    /// The disk's size, by which a wrong one is told: what is on it is the host's to keep.
    fn save(&self) -> Vec<u8> {
        let size = self.station.parked().map(BlockBackend::size);
        [VERSION].into_iter().chain(size.into_iter().flat_map(u64::to_le_bytes)).collect()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let refused = |why: String| Err(RestoreError::Refused(why));
        let saved = match *state {
            [VERSION, ref size @ ..] => size.try_into().map(u64::from_le_bytes).ok(),
            _ => None,
        };
        match (saved, self.station.parked().map(BlockBackend::size)) {
            (Some(saved), Some(here)) if saved == here => Ok(()),
            (Some(saved), Some(here)) => refused(format!(
                "it is of a disk of {saved} bytes, and this one has {here}: attach the same disk"
            )),
            (None, _) => refused("it is none of a disk".into()),
            (_, None) => refused("the disk runs already".into()),
        }
    }
}
