//! A disk that becomes larger, or smaller.

use std::sync::Arc;

use cubie_virtio_core::Config;

use crate::protocol::capacity;
use crate::terms::Terms;

/// Tells the guest that its disk has another size, at any time and from any thread.
#[derive(Clone, Debug)]
pub struct Resizer {
    config: Config,
    terms: Arc<Terms>,
}

impl Resizer {
    pub(crate) fn new(config: Config, terms: Arc<Terms>) -> Self {
        Self { config, terms }
    }

    /// The disk has so many bytes from now on; what does not fill a sector is out of the guest's reach. The
    /// guest is interrupted if it had another size.
    ///
    /// It is for whoever has changed the host's end, which is not asked: a file is made longer before, and
    /// shorter afterwards, when the guest has had the time to learn of it. What is read
    /// beyond its end fails with an I/O error, and what is written there makes a file longer again.
    pub fn resize(&self, bytes: u64) {
        let (mut old, new) = ([0; 8], capacity(bytes));
        self.config.read(0, &mut old);
        if old == new {
            self.terms.set_size(bytes);
            return;
        }
        // Both at a time: of two that come at once, the later one is heard by all.
        self.config.update(|config| {
            self.terms.set_size(bytes);
            config[..new.len()].copy_from_slice(&new);
        });
    }
}
