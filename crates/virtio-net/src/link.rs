//! The card's link, up or down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cubie_virtio_core::Config;

use crate::protocol::config::{self, LINK_UP};

/// A handle on the card's cable, to be used at any time and from any thread. Clones share it.
///
/// While the link is down nothing passes: the guest is told, what it sends is dropped, and so is what the
/// host has for it.
#[derive(Clone, Debug)]
pub struct Link(Arc<Cable>);

#[derive(Debug)]
struct Cable {
    up: AtomicBool,
    config: Config,
}

impl Link {
    pub(crate) fn new(config: Config) -> Self {
        Self(Arc::new(Cable { up: AtomicBool::new(true), config }))
    }

    /// Plugs the cable in or out. The guest is interrupted if that is a change.
    pub fn set_up(&self, up: bool) {
        if self.0.up.swap(up, Ordering::Relaxed) != up {
            self.0.config.update(|bytes| config::change_status(bytes, LINK_UP, up));
        }
    }

    /// Whether frames pass.
    pub fn is_up(&self) -> bool {
        self.0.up.load(Ordering::Relaxed)
    }
}
