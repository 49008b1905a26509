//! What the log is told of a host that fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells the log of the disk's first host error: a guest can repeat what fails, and start the device anew,
/// as often as it likes. Clones share what was said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaints(Arc<AtomicBool>);

impl Complaints {
    pub(crate) fn note(&self, result: &io::Result<()>) {
        match result {
            Err(error) if !self.0.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "the host failed a disk request: the guest gets I/O errors");
            }
            Err(error) => tracing::debug!(%error, "the host failed a disk request"),
            Ok(()) => {}
        }
    }
}
