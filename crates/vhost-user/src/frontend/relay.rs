//! The worker beside a daemon.

use cubie_virtio_core::{Handler, Source};

use super::ring::RingRelay;

/// Awake when the daemon cannot raise the interrupt itself, and when the driver has broken a ring.
#[derive(Debug)]
pub(crate) struct Relay(pub(crate) Vec<RingRelay>);

impl Relay {
    /// What was said last, which the worker has not heard.
    pub(crate) fn finish(mut self) {
        self.0.iter_mut().for_each(RingRelay::pass_on);
    }
}

impl Handler for Relay {
    fn sources(&self) -> Vec<Source> {
        self.0.iter().zip(0..).flat_map(|(ring, token)| ring.sources(token)).collect()
    }

    fn ready(&mut self, token: u32) {
        if let Some(ring) = self.0.get_mut(token as usize) {
            ring.pass_on();
        }
    }
}
