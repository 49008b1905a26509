//! How a peer is found, and found again.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use cubie_virtio_core::Clock;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::SocketError;
use super::listener::Listener;
use super::retry::Retry;

pub(super) struct Peer {
    way: Way,
    retry: Retry,
    /// Somebody was told why the peer cannot be reached.
    complained: bool,
}

enum Way {
    /// Comes to us.
    Comes(Listener),
    /// Is there, or will be.
    IsCalled(PathBuf),
}

impl Peer {
    pub(super) fn listen(path: &Path, clock: Box<dyn Clock>) -> Result<Self, SocketError> {
        Self::new(Way::Comes(Listener::new(path)?), clock)
    }

    pub(super) fn call(path: &Path, clock: Box<dyn Clock>) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Path { path: path.into(), source };
        SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
        // Who is not there yet may come, but not to where nobody can be.
        fs::metadata(folder(path)).map_err(failed)?;
        if path.metadata().is_ok_and(|there| !there.file_type().is_socket()) {
            return Err(SocketError::NoSocket(path.into()));
        }
        Self::new(Way::IsCalled(path.into()), clock)
    }

    fn new(way: Way, clock: Box<dyn Clock>) -> Result<Self, SocketError> {
        let retry = Retry::new(clock).map_err(SocketError::Host)?;
        Ok(Self { way, retry, complained: false })
    }

    /// Become readable when somebody comes, or when it is time to try again.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listener = match &self.way {
            Way::Comes(listener) => Some(listener.as_fd()),
            Way::IsCalled(_) => None,
        };
        listener.into_iter().chain([self.retry.as_fd()])
    }

    /// A connection, if there is one to be had now.
    pub(super) fn reach(&mut self) -> Option<OwnedFd> {
        let reached = match &self.way {
            Way::Comes(listener) => listener.accept(),
            Way::IsCalled(_) if !self.retry.is_due() => return None,
            Way::IsCalled(path) => {
                self.retry.begin();
                call(path).map(Some)
            }
        };
        match reached {
            Ok(stream) => {
                self.complained &= stream.is_none();
                stream
            }
            Err(error) => {
                self.has_failed(&error);
                None
            }
        }
    }

    /// It was not to be reached, and is tried again. What it will not mend by itself is told, once.
    fn has_failed(&mut self, error: &io::Error) {
        if let Way::Comes(_) = self.way {
            // Who waits does not come once more.
            self.retry.begin();
        }
        self.retry.wait();
        let later = [ErrorKind::NotFound, ErrorKind::ConnectionRefused, ErrorKind::WouldBlock];
        if later.contains(&error.kind()) || self.complained {
            tracing::debug!(%error, "the socket's peer is not there");
        } else {
            self.complained = true;
            tracing::warn!(%error, "the socket's peer cannot be reached, and is tried again");
        }
    }

    /// The connection is gone, and another one wanted.
    pub(super) fn lost(&mut self) {
        if let Way::IsCalled(_) = self.way {
            self.retry.wait();
        }
    }

    /// The connection is good for something: the next one may come soon after it.
    pub(super) fn is_well(&mut self) {
        self.retry.is_well();
    }
}

/// A connection to who listens at `path`. Does not wait for one that has many waiting already.
pub(super) fn call(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// The folder that the socket is in.
pub(super) fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}
