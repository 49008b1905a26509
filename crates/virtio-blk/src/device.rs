//! The control plane.

use std::sync::Arc;

use cubie_virtio_core::{
    Clock, Config, DeviceId, Features, HostClock, QueueState, Queues, RestoreError, StartError,
    VirtioDevice,
};

use crate::complaints::Complaints;
use crate::handler::Common;
use crate::protocol::{
    F_BLK_SIZE, F_CONFIG_WCE, F_DISCARD, F_FLUSH, F_MQ, F_RO, F_SEG_MAX, F_SIZE_MAX, F_TOPOLOGY,
    F_WRITE_ZEROES, Face, SEGMENTS, WRITEBACK, config_space,
};
use crate::terms::Terms;
use crate::throttle::Throttle;
use crate::workers::Workers;
use crate::{BlockBackend, DiskLimits, Resizer, Serial};

const QUEUE_SIZE: u16 = 256;
/// First byte of a saved disk; its size follows.
const VERSION: u8 = 1;
/// Buffers of payload a request: a chain is no longer than the queue, and begins with the header and
/// ends with the status.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;
/// More queues would be more threads than a disk has work for.
const MOST_QUEUES: usize = 64;

/// What a driver is offered of every disk. It may leave out all of it.
const FEATURES: Features =
    F_SIZE_MAX.with(F_SEG_MAX).with(F_BLK_SIZE).with(F_FLUSH).with(F_TOPOLOGY).with(F_CONFIG_WCE);

/// A block device over the backend `B`.
#[derive(Debug)]
pub struct Blk<B: BlockBackend> {
    config: Config,
    features: Features,
    queue_sizes: Vec<u16>,
    serial: Serial,
    terms: Arc<Terms>,
    limits: DiskLimits,
    clock: Arc<dyn Clock>,
    throttle: Option<Throttle>,
    complaints: Complaints,
    workers: Workers<B>,
}

/// Not as many backends as a disk can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a disk has 1 to {MOST_QUEUES} queues, not {0}: give as many backends")]
pub struct QueuesError(usize);

impl<B: BlockBackend> Blk<B> {
    /// A disk of the backend's size, read-only if the backend is.
    pub fn new(backend: B, serial: Serial) -> Self {
        Self::of(vec![backend], serial)
    }

    /// A disk with a queue, and a thread, for each of `backends`, up to 64, all of which lead to the same bytes.
    /// The driver uses as many as it likes, usually one for each of its CPUs.
    ///
    /// # Errors
    /// When there are none, or too many.
    pub fn with_queues(backends: Vec<B>, serial: Serial) -> Result<Self, QueuesError> {
        match backends.len() {
            1..=MOST_QUEUES => Ok(Self::of(backends, serial)),
            count => Err(QueuesError(count)),
        }
    }

    fn of(backends: Vec<B>, serial: Serial) -> Self {
        let (first, queues) = (&backends[0], backends.len());
        let offered = [
            (F_RO, first.is_read_only()),
            (F_MQ, queues > 1),
            (F_DISCARD, first.can_discard() && !first.is_read_only()),
            (F_WRITE_ZEROES, first.can_write_zeroes() && !first.is_read_only()),
        ];
        let offered = offered.into_iter().filter(|(_, offered)| *offered);
        let features = offered.fold(FEATURES, |all, (feature, _)| all.with(feature));
        let face = Face {
            size: first.size(),
            seg_max: SEG_MAX,
            topology: first.topology(),
            queues: queues as u16,
            writeback: true,
            discard: features.has(F_DISCARD),
            write_zeroes: features.has(F_WRITE_ZEROES),
        };
        Self {
            config: Config::new(config_space(&face)),
            features,
            queue_sizes: vec![QUEUE_SIZE; queues],
            serial,
            terms: Arc::new(Terms::new(face.size, face.writeback)),
            limits: DiskLimits::default(),
            clock: Arc::new(HostClock::default()),
            throttle: None,
            complaints: Complaints::default(),
            workers: Workers::new(backends),
        }
    }

    /// The same disk, whose cache begins as writeback (a write is answered before it is on stable storage, as
    /// without this), or as write-through. A driver that knows how may change it.
    #[must_use]
    pub fn with_writeback(self, writeback: bool) -> Self {
        self.set_writeback(writeback);
        self
    }

    /// The same disk, whose requests have at most so many buffers of payload instead of 254: where somebody else
    /// decides how large the queues are, the driver would make chains of this length for them all the same.
    #[must_use]
    pub fn with_segments(self, most: u32) -> Self {
        let most = most.clamp(1, SEG_MAX);
        self.config.update(|config| {
            config[SEGMENTS..SEGMENTS + 4].copy_from_slice(&most.to_le_bytes());
        });
        self
    }

    /// The same disk, of which the guest gets no more than this.
    #[must_use]
    pub fn with_limits(self, limits: DiskLimits) -> Self {
        let throttle = Throttle::new(limits, self.clock.clone());
        Self { limits, throttle, ..self }
    }

    /// The same disk in the time of `clock`, for its limits.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(clock);
        let throttle = Throttle::new(self.limits, clock.clone());
        Self { clock, throttle, ..self }
    }

    /// A handle that tells the guest of another size.
    pub fn resizer(&self) -> Resizer {
        Resizer::new(self.config.clone(), self.terms.clone())
    }

    fn set_writeback(&self, writeback: bool) {
        self.terms.set_writeback(writeback);
        if self.shown_writeback() != writeback {
            self.config.update(|config| config[WRITEBACK] = writeback.into());
        }
    }

    /// What a driver reads, which may be what one of a snapshot has left there.
    fn shown_writeback(&self) -> bool {
        let mut byte = [0];
        self.config.read(WRITEBACK, &mut byte);
        byte != [0]
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
        &self.queue_sizes
    }

    fn config(&self) -> &Config {
        &self.config
    }

    /// The driver chooses between writeback and write-through; all else is read-only (VIRTIO 1.4 §5.2.4).
    /// Its choice stands until another is made, by the next driver too, which finds it there.
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        let value = WRITEBACK.checked_sub(offset).and_then(|at| data.get(at));
        if let Some(value) = value {
            self.set_writeback(*value != 0);
        }
    }

    fn start(&mut self, features: Features, queues: Queues) -> Result<(), StartError> {
        // Who can switch and not flush begins with a cache that needs no flush (VIRTIO 1.4 §5.2.5.2); of a
        // driver from before the standard, a status changes nothing.
        let switches = features.has(Features::VERSION_1.with(F_CONFIG_WCE));
        self.set_writeback(self.shown_writeback() && (features.has(F_FLUSH) || !switches));
        let (serial, terms) = (self.serial, self.terms.clone());
        let common = Common { features, serial, terms, complaints: self.complaints.clone() };
        self.workers.start(queues, &common, self.throttle.as_ref())
    }

    fn stop(&mut self) -> Vec<QueueState> {
        self.workers.stop()
    }

    /// The disk's size, by which a wrong one is told: what is on it is the host's to keep.
    fn save(&self) -> Vec<u8> {
        [VERSION].into_iter().chain(self.terms.size().to_le_bytes()).collect()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let refused = |why: String| Err(RestoreError::Refused(why));
        let saved = match *state {
            [VERSION, ref size @ ..] => size.try_into().map(u64::from_le_bytes).ok(),
            _ => None,
        };
        let here = self.terms.size();
        match saved {
            _ if self.workers.run() => refused("the disk runs already".into()),
            Some(saved) if saved == here => Ok(()),
            Some(saved) => refused(format!(
                "it is of a disk of {saved} bytes, and this one has {here}: attach the same disk"
            )),
            None => refused("it is none of a disk".into()),
        }
    }
}
