//! A socket with a name that others connect to.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::SocketError;
use super::peer::{call, folder};

/// A socket with a name, which goes with this value.
pub(super) struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the name: no other has them as long as this one listens.
    name: (u64, u64),
}

impl Listener {
    pub(super) fn new(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Path { path: path.into(), source };
        let _turn = turn(path);
        clear(path)?;
        let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => SocketError::Busy(path.into()),
            _ => failed(error),
        })?;
        listener.set_nonblocking(true).map_err(failed)?;
        let name = name(path).map_err(failed)?;
        Ok(Self { listener, path: path.into(), name })
    }

    /// Who has come, if somebody has.
    pub(super) fn accept(&self) -> io::Result<Option<OwnedFd>> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return Ok(Some(stream.into())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                // Is gone again; another one may have come.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody may have removed the name, and listen at a socket of the same one.
        if name(&self.path).is_ok_and(|name| name == self.name) {
            // Gone already, if it is not there.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn name(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata().map(|there| (there.dev(), there.ino()))
}

/// Removes a socket that nobody listens at: its program was killed.
fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Path { path: path.into(), source };
    let Ok(there) = path.symlink_metadata() else { return Ok(()) };
    if !there.file_type().is_socket() {
        return Err(SocketError::NoSocket(path.into()));
    }
    match call(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        // It listens, or has too many waiting already, or is not for us.
        _ => Err(SocketError::Busy(path.into())),
    }
}

/// As long as this is there, no other one begins to listen in the same folder, so that two that find the same old
/// socket do not remove each other's new one. Of no effect where the folder may not be read, or has no locks.
fn turn(path: &Path) -> Option<File> {
    let folder = File::open(folder(path)).ok()?;
    folder.lock().ok()?;
    Some(folder)
}
