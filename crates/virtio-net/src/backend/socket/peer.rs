//! How a peer is found, and found again.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cubie_virtio_core::{Clock, Timer};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::SocketError;

/// Between two attempts to connect: at first, and at most.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

pub(super) enum Peer {
    /// Comes to us.
    Caller(Listener),
    /// Is there, or will be.
    Called(Call),
}

/// A socket with a name, which goes with this value.
pub(super) struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

/// A name to connect to.
pub(super) struct Call {
    address: SocketAddrUnix,
    clock: Box<dyn Clock>,
    timer: Box<dyn Timer>,
    /// Not before.
    next: Duration,
    /// From the next attempt to the one behind.
    pause: Duration,
}

impl Peer {
    pub(super) fn listen(path: &Path) -> Result<Self, SocketError> {
        clear(path)?;
        let failed = |source| SocketError::Path { path: path.into(), source };
        let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => SocketError::Busy(path.into()),
            _ => failed(error),
        })?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self::Caller(Listener { listener, path: path.into() }))
    }

    pub(super) fn call(path: &Path, clock: Box<dyn Clock>) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Path { path: path.into(), source };
        let address = SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
        // Who is not there yet may come, but not to where nobody can be.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::metadata(folder.unwrap_or(Path::new("."))).map_err(failed)?;
        if path.metadata().is_ok_and(|there| !there.file_type().is_socket()) {
            return Err(SocketError::NoSocket(path.into()));
        }
        let timer = clock.timer().map_err(SocketError::Host)?;
        let next = clock.now();
        Ok(Self::Called(Call { address, clock, timer, next, pause: PAUSE }))
    }

    /// Becomes readable when somebody comes, or when it is time to try again.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Caller(Listener { listener, .. }) => listener.as_fd(),
            Self::Called(call) => call.timer.as_fd(),
        }
    }

    /// A connection, if there is one to be had now.
    pub(super) fn reach(&mut self) -> Option<OwnedFd> {
        match self {
            Self::Caller(Listener { listener, .. }) => {
                listener.accept().ok().map(|(stream, _)| stream.into())
            }
            Self::Called(call) => call.reach(),
        }
    }

    /// The connection is gone, and another one wanted.
    pub(super) fn lost(&mut self) {
        if let Self::Called(call) = self {
            call.timer.set(call.next);
        }
    }

    /// The connection is good for something: the next one may come soon after it.
    pub(super) fn is_well(&mut self) {
        if let Self::Called(call) = self {
            call.pause = PAUSE;
        }
    }
}

impl Call {
    fn reach(&mut self) -> Option<OwnedFd> {
        let now = self.clock.now();
        if now < self.next {
            return None;
        }
        self.next = now + self.pause;
        self.pause = (2 * self.pause).min(LONGEST);
        let reached = self.connect();
        if let Err(error) = &reached {
            tracing::debug!(%error, "the socket's peer is not there");
            self.timer.set(self.next);
        }
        reached.ok()
    }

    /// Does not wait for a peer that has many waiting already.
    fn connect(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &self.address)?;
        Ok(socket)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Gone already, if it is not there.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a socket that nobody listens at: its program was killed.
fn clear(path: &Path) -> Result<(), SocketError> {
    let Ok(there) = path.symlink_metadata() else { return Ok(()) };
    if !there.file_type().is_socket() {
        return Err(SocketError::NoSocket(path.into()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|source| SocketError::Path { path: path.into(), source })
        }
        _ => Err(SocketError::Busy(path.into())),
    }
}
