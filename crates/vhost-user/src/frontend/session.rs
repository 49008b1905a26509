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
    /// Requests may be finished in any order.
    pub(crate) reorders: bool,
    /// A daemon has had it.
    pub(crate) served: bool,
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
        for ring in work.rings.iter_mut().filter(|_| work.served) {
            let taken = match &self.daemon {
                Some(daemon) => daemon.take_back(ring),
                None => Err(DaemonError::Gone),
            };
            match taken {
                Ok(()) if !work.reorders || ring.has_settled() => {}
                Ok(()) => {
                    tracing::warn!(
                        "a vhost-user daemon does not finish, and may still write into guest memory"
                    );
                    self.give_up();
                }
                Err(DaemonError::Gone) => _ = ring.orphaned(),
                Err(error) => {
                    tracing::warn!(%error, "a vhost-user daemon does not stop, and may still write into guest memory");
                    self.give_up();
                    ring.orphaned();
                }
            }
        }
        Some(work.rings.iter().map(|ring| (ring.index(), ring.state())).collect())
    }

    fn give_up(&self) {
        self.daemon.iter().for_each(|daemon| daemon.link().give_up());
    }

    /// The daemon has gone.
    pub(crate) fn lose(&mut self) {
        self.daemon = None;
        // It may have finished something and not said so.
        self.work.iter().flat_map(|work| &work.rings).for_each(Ring::alert);
    }

    /// Another daemon goes on, if one can for another.
    pub(crate) fn go_on(&mut self, daemon: Arc<Daemon>, succeeds: bool) {
        if let Some(mut work) = self.work.take() {
            if !work.served || succeeds && work.is_left_whole() {
                match daemon.serve(&mut work) {
                    // Of one that has gone again, its keeper hears.
                    Ok(()) | Err(DaemonError::Gone) => {}
                    Err(error) => {
                        tracing::warn!(%error, "a vhost-user daemon does not go on: the driver has to");
                        daemon.link().give_up();
                        work.rings.iter().for_each(Ring::give_up);
                    }
                }
                self.work = Some(work);
            } else {
                // The driver sets everything up anew.
                work.rings.iter().for_each(Ring::give_up);
            }
        }
        self.daemon = Some(daemon);
    }
}

impl Work {
    /// Whether every ring can be served by another daemon.
    fn is_left_whole(&mut self) -> bool {
        let whole: Vec<_> = self.rings.iter_mut().map(Ring::orphaned).collect();
        !whole.contains(&false)
    }
}
