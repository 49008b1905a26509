//! What vCPUs and the keeper share.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cubie_virtio_core::{Features, QueueState};
use vm_memory::GuestMemoryMmap;

use super::DaemonError;
use super::daemon::Daemon;
use super::notes::Notes;
use super::ring::Ring;

/// The daemon, while there is one, and what it is to serve, while the device runs.
///
/// Whoever holds the lock talks to the daemon, which is answered or given up within a time.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Session>>);

pub(crate) struct Session {
    daemon: Option<Arc<Daemon>>,
    work: Option<Work>,
}

/// What a driver has set up.
pub(crate) struct Work {
    pub(crate) features: Features,
    pub(crate) memory: Arc<GuestMemoryMmap>,
    pub(crate) rings: Vec<Ring>,
    /// Of what is in flight.
    pub(crate) notes: Option<Notes>,
}

impl Shared {
    pub(crate) fn new(daemon: Arc<Daemon>) -> Self {
        Self(Arc::new(Mutex::new(Session { daemon: Some(daemon), work: None })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    pub(crate) fn daemon(&self) -> Option<Arc<Daemon>> {
        self.daemon.clone()
    }

    /// The device starts. One whose daemon is away does so as well: it waits for the next.
    ///
    /// # Errors
    /// When the daemon refuses what the driver has set up. Nothing is served.
    pub(crate) fn start(&mut self, mut work: Work) -> io::Result<()> {
        if let Some(daemon) = &self.daemon {
            match daemon.serve(&mut work) {
                Ok(()) | Err(DaemonError::Gone) => {}
                Err(error) => {
                    // Some of the rings it may have taken already.
                    daemon.link().give_up();
                    return Err(io::Error::other(format!("the vhost-user daemon: {error}")));
                }
            }
        }
        self.work = Some(work);
        Ok(())
    }

    /// The device stops. How far each ring has got, by the queue's index; `None` when it did not run.
    pub(crate) fn stop(&mut self) -> Option<Vec<(u16, QueueState)>> {
        let mut work = self.work.take()?;
        for ring in &mut work.rings {
            let taken = match &self.daemon {
                Some(daemon) => daemon.take_back(ring),
                None => Err(DaemonError::Gone),
            };
            match taken {
                Ok(()) => {}
                Err(DaemonError::Gone) => ring.orphaned(),
                Err(error) => {
                    tracing::warn!(%error, "a vhost-user daemon does not say how far a queue has got");
                    self.daemon.iter().for_each(|daemon| daemon.link().give_up());
                    ring.orphaned();
                }
            }
        }
        Some(work.rings.iter().map(|ring| (ring.index(), ring.state())).collect())
    }

    /// The daemon has gone.
    pub(crate) fn lose(&mut self) {
        self.daemon = None;
    }

    /// Another daemon goes on.
    pub(crate) fn go_on(&mut self, daemon: Arc<Daemon>) {
        if let Some(work) = &mut self.work {
            work.rings.iter_mut().for_each(Ring::orphaned);
            match daemon.serve(work) {
                // Of one that has gone again, its keeper hears.
                Ok(()) | Err(DaemonError::Gone) => {}
                Err(error) => {
                    tracing::warn!(%error, "a vhost-user daemon does not go on: the driver has to");
                    work.rings.iter().for_each(Ring::give_up);
                }
            }
        }
        self.daemon = Some(daemon);
    }
}
