//! The device that its guest sees.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cubie_virtio_core::{
    Config, DeviceId, Features, QueueState, Queues, Running, StartError, VirtioDevice, spawn,
};
use rustix::event::{EventfdFlags, eventfd};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::daemon::Daemon;
use super::keeper::{Keeper, Watch};
use super::relay::Relay;
use super::ring::Ring;
use super::session::{Shared, Work};
use super::{ConnectError, DaemonKind};

/// What rings can be where the daemon knows them. All else it offers of them is its front-end's.
const RINGS: Features =
    Features::INDIRECT.with(Features::EVENT_IDX).with(Features::PACKED).with(Features::IN_ORDER);
/// The most regions that every daemon takes (`VHOST_MEMORY_BASELINE_NREGIONS` of QEMU's).
const MOST_REGIONS: usize = 8;

/// A device whose queues a daemon serves: somebody else's, or ours ([`Server`](crate::Server)).
///
/// See [the module's documentation](crate::frontend).
pub struct FrontEnd {
    path: PathBuf,
    kind: DaemonKind,
    features: Features,
    rings: Features,
    queue_sizes: Vec<u16>,
    config: Config,
    session: Shared,
    relay: Option<Running<Relay>>,
    // Its thread ends with the device.
    _keeper: Keeper,
}

impl FrontEnd {
    /// Connects to the daemon that listens at `path`, and asks what it has.
    ///
    /// # Errors
    /// When there is none, or it is not as it has to be.
    pub fn connect(path: impl AsRef<Path>, kind: DaemonKind) -> Result<Self, ConnectError> {
        let path = path.as_ref();
        let refused = |source| ConnectError::Host { path: path.into(), source };
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| refused(error.into()))?;
        let stop = Arc::new(stop);
        let daemon = Arc::new(Daemon::connect(path, &kind, &stop)?);
        let failed = |source| ConnectError::Daemon { path: path.into(), source };
        let config = Config::new(daemon.config(&kind).map_err(failed)?);
        let features = kind.features(daemon.offered(), daemon.has_config());
        let rings = daemon.offered().and(RINGS);
        let session = Shared::new(Arc::clone(&daemon));
        let watch = Watch {
            path: path.into(),
            kind: kind.clone(),
            config: config.clone(),
            // Some of the device's features are said here and not by the daemon.
            offered: features.with(rings).and(daemon.offered()),
            session: session.clone(),
            stop,
        };
        Ok(Self {
            path: path.into(),
            features,
            rings: rings.with(Features::TRANSPORT),
            queue_sizes: kind.queue_sizes(),
            kind,
            config,
            session,
            relay: None,
            _keeper: Keeper::new(watch).map_err(refused)?,
        })
    }

    /// Where its daemon listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The queues that are served, and the worker beside them.
    fn prepare(&self, queues: &mut Queues) -> Result<(Vec<Ring>, Relay), StartError> {
        let (mut rings, mut relays) = (vec![], vec![]);
        for index in 0..self.queue_sizes.len() as u16 {
            // Those that the driver has reset, or does not use, nobody serves.
            let Some(queue) = queues.take_resources(index) else { continue };
            check(&queue.memory)?;
            let (ring, relay) = Ring::new(queue)?;
            rings.push(ring);
            relays.push(relay);
        }
        Ok((rings, Relay(relays)))
    }
}

impl VirtioDevice for FrontEnd {
    fn id(&self) -> DeviceId {
        self.kind.id()
    }

    fn features(&self) -> Features {
        self.features
    }

    fn rings(&self) -> Features {
        self.rings
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        if !self.kind.takes_config(offset, data.len()) {
            return;
        }
        let said = {
            let turn = self.session.lock();
            let Some(daemon) = turn.daemon().filter(|daemon| daemon.has_config()) else { return };
            daemon.set_config(offset, data).and_then(|()| daemon.config(&self.kind))
        };
        match said {
            Ok(bytes) => show(&self.config, &bytes),
            // The guest may write as often as it likes.
            Err(error) => {
                tracing::debug!(%error, "a vhost-user daemon refuses what a driver writes");
            }
        }
    }

    fn start(&mut self, features: Features, mut queues: Queues) -> Result<(), StartError> {
        if !features.has(Features::VERSION_1) {
            let legacy = "a vhost-user daemon serves no legacy driver";
            return Err(std::io::Error::other(legacy).into());
        }
        let (rings, relay) = self.prepare(&mut queues)?;
        let Some(first) = rings.first() else { return Ok(()) };
        let memory = Arc::clone(first.memory());
        let relay = spawn("vhost-user-relay", relay).map_err(|(error, _)| error)?;
        self.session.lock().start(Work {
            features,
            memory,
            rings,
            notes: None,
            reorders: self.kind.reorders(),
            served: false,
        })?;
        self.relay = Some(relay);
        Ok(())
    }

    fn stop(&mut self) -> Vec<QueueState> {
        let Some(stopped) = self.session.lock().stop() else { return vec![] };
        if let Some(relay) = self.relay.take() {
            relay.stop().finish();
        }
        // Those that nobody served are as they were when they are set up anew.
        let mut states = vec![QueueState::default(); self.queue_sizes.len()];
        for (index, state) in stopped {
            states[usize::from(index)] = state;
        }
        states
    }
}

impl fmt::Debug for FrontEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut device = f.debug_struct("FrontEnd");
        device.field("path", &self.path).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Drop for FrontEnd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Has the guest read this, which it hears of if it is something else than before.
pub(super) fn show(config: &Config, bytes: &[u8]) {
    let mut before = vec![0; bytes.len()];
    config.read(0, &mut before);
    if before != bytes {
        config.update(|space| space.copy_from_slice(bytes));
    }
}

/// Whether a daemon can map all of it.
fn check(memory: &GuestMemoryMmap) -> std::io::Result<()> {
    let regions = memory.iter().count();
    if regions > MOST_REGIONS {
        let what =
            format!("{regions} regions of guest memory are too many for a vhost-user daemon");
        return Err(std::io::Error::other(what));
    }
    if memory.iter().any(|region| region.file_offset().is_none()) {
        let what = "guest memory is no file that a vhost-user daemon could map: have the machine share its memory";
        return Err(std::io::Error::other(what));
    }
    Ok(())
}
