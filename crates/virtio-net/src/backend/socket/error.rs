//! Why there is no socket.

use std::io;
use std::path::PathBuf;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another program listens there.
    #[error("somebody else listens at {}: take another path, or connect to it", .0.display())]
    Busy(PathBuf),
    /// Something else is there.
    #[error("{} is no socket: take another path", .0.display())]
    NoSocket(PathBuf),
    /// The path cannot be used.
    #[error("cannot use the socket {}: {source}", path.display())]
    Path {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The host has no more of what it takes.
    #[error("cannot have a socket: {0}")]
    Host(io::Error),
}

impl SocketError {
    pub(super) fn host(error: impl Into<io::Error>) -> Self {
        Self::Host(error.into())
    }
}
