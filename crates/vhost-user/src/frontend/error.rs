//! What can go wrong with a daemon.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use vhost::vhost_user::message::FrontendReq;

use crate::Dropped;

/// Why there is no device at a socket.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no socket.
    #[error("{0} does not exist: start the daemon first, or name the socket that it listens at")]
    Missing(PathBuf),
    /// Nobody listens there, or it is no socket.
    #[error("nobody listens at {0}: start the daemon again")]
    NobodyListens(PathBuf),
    /// Others have connected, and the daemon has not taken them yet.
    #[error("the daemon at {0} takes nobody: it serves another VMM, or does not go on")]
    Busy(PathBuf),
    /// The socket is somebody else's.
    #[error("{0} may not be connected to: have it writable for this user")]
    NotPermitted(PathBuf),
    /// It offers legacy devices only.
    #[error("the daemon at {0} offers no VIRTIO_F_VERSION_1: take a newer one")]
    Legacy(PathBuf),
    /// It has no configuration space, and the device's kind has one.
    #[error("the daemon at {0} says nothing of the device's configuration: is it of another type?")]
    NoConfig(PathBuf),
    /// It has fewer queues than wanted.
    #[error("the daemon at {path} has {most} queues: give queues={most} at most")]
    Queues {
        /// Where.
        path: PathBuf,
        /// How many it has.
        most: u64,
    },
    /// It does not answer as it has to.
    #[error("the daemon at {path}: {source}")]
    Daemon {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        source: DaemonError,
    },
    /// The host refused something.
    #[error("{path} cannot be connected to: {source}")]
    Host {
        /// Where.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
}

impl ConnectError {
    pub(crate) fn of(path: &Path, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            ErrorKind::NotFound => Self::Missing(path),
            ErrorKind::ConnectionRefused => Self::NobodyListens(path),
            ErrorKind::WouldBlock => Self::Busy(path),
            ErrorKind::PermissionDenied => Self::NotPermitted(path),
            _ => Self::Host { path, source },
        }
    }
}

/// What a daemon did instead of what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// It has closed the connection.
    #[error("it has closed the connection")]
    Gone,
    /// It did not answer for ten seconds.
    #[error("it does not answer")]
    Silent,
    /// It said no.
    #[error("it refuses {0:?}")]
    Refused(FrontendReq),
    /// It said something that is no answer.
    #[error("its answer to {request:?} is none: {what}")]
    Nonsense {
        /// What it was asked for.
        request: FrontendReq,
        /// What came.
        what: String,
    },
    /// The host refused something.
    #[error("the host: {0}")]
    Host(#[from] io::Error),
}

impl DaemonError {
    pub(crate) fn of(request: FrontendReq, error: Dropped) -> Self {
        match error {
            Dropped::Stalled => Self::Silent,
            Dropped::Truncated => Self::Gone,
            Dropped::Host(error) => Self::Host(error),
            other => Self::Nonsense { request, what: other.to_string() },
        }
    }
}
