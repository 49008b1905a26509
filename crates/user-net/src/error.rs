//! Why there is no network.

use std::io;

use crate::Forward;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum UserNetError {
    /// Somebody else has the host's port.
    #[error("hostfwd={0}: the host's port {host} is in use by another program: take another one", host = .0.host)]
    InUse(Forward),
    /// A port, or an address, that this process cannot have.
    #[error("hostfwd={forward}: cannot listen on the host's {host}: {source}", host = forward.host)]
    Listen {
        /// Which.
        forward: Forward,
        /// Why.
        source: io::Error,
    },
    /// What every process should be able to have.
    #[error("cannot make {what}: {source}")]
    Host {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}
