//! Where front-ends find the daemon.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::connection::call;

/// A Unix socket that front-ends connect to. It is removed when this is dropped; what a killed daemon has left is
/// replaced by the next one.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket's name.
    name: (u64, u64),
}

/// Why nobody can connect to a path.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another daemon listens there.
    #[error("{0} is in use by another daemon: stop that one, or take another path")]
    InUse(PathBuf),
    /// Something else has that name.
    #[error("{0} exists and is not a socket: take another path")]
    NotASocket(PathBuf),
    /// Its folder is missing.
    #[error("{0} cannot be made: its folder does not exist")]
    NoFolder(PathBuf),
    /// Its folder may not be written to, or what is left there may not be removed.
    #[error("{0} cannot be made: permission denied; take a folder that you may write to")]
    NotPermitted(PathBuf),
    /// Longer than the name of a socket can be.
    #[error("{0} is longer than the name of a socket can be (107 bytes): take a shorter path")]
    TooLong(PathBuf),
    /// Something else.
    #[error("{path} cannot be listened at: {source}")]
    Host {
        /// Where.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
}

impl Listener {
    /// Listens at `path`.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, ListenError> {
        let path = path.as_ref();
        let failed = |error| ListenError::of(path, error);
        let _turn = turn(path);
        let socket = match UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                clear(path)?;
                UnixListener::bind(path).map_err(failed)?
            }
            result => result.map_err(failed)?,
        };
        socket.set_nonblocking(true).map_err(failed)?;
        let name = name(path).map_err(failed)?;
        Ok(Self { socket, path: path.into(), name })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who has connected, unless it has left since.
    pub(crate) fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.socket.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }
}

/// Removes the socket at `path` if nobody listens there.
fn clear(path: &Path) -> Result<(), ListenError> {
    let failed = |error| ListenError::of(path, error);
    if !fs::symlink_metadata(path).map_err(failed)?.file_type().is_socket() {
        return Err(ListenError::NotASocket(path.into()));
    }
    match call(path) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(failed),
        // Somebody has removed it meanwhile.
        Err(Errno::NOENT) => Ok(()),
        // It has as many waiting as it takes.
        Ok(_) | Err(Errno::AGAIN) => Err(ListenError::InUse(path.into())),
        Err(error) => Err(failed(error.into())),
    }
}

fn name(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata().map(|there| (there.dev(), there.ino()))
}

/// As long as this is there, nobody else looks for an old socket in the same folder. Of no effect where the folder
/// may not be read, or has no locks.
fn turn(path: &Path) -> Option<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new("."))).ok()?;
    folder.lock().ok()?;
    Some(folder)
}

impl ListenError {
    fn of(path: &Path, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            ErrorKind::AddrInUse => Self::InUse(path),
            ErrorKind::NotFound => Self::NoFolder(path),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::NotPermitted(path),
            ErrorKind::InvalidInput => Self::TooLong(path),
            _ => Self::Host { path, source },
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Another daemon may have that name by now.
        if name(&self.path).is_ok_and(|name| name == self.name) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_socket_that_a_killed_daemon_has_left_is_replaced() {
        let folder = folder();
        let path = folder.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves it");
        let listener = Listener::bind(&path).unwrap();
        assert!(listener.accept().unwrap().is_none());
        let _front_end = UnixStream::connect(&path).unwrap();
        assert!(listener.accept().unwrap().is_some());
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_has_taken_ones_place_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("socket");
        let first = Listener::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = Listener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
    }

    #[test]
    fn a_living_daemon_keeps_its_socket() {
        let folder = folder();
        let path = folder.path().join("socket");
        let _listener = Listener::bind(&path).unwrap();
        let error = Listener::bind(&path).unwrap_err();
        assert!(error.to_string().contains("in use by another daemon"), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn what_is_wrong_with_a_path_is_said() {
        let folder = folder();
        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        let told = |path: &Path| Listener::bind(path).unwrap_err().to_string();
        assert!(told(&file).contains("exists and is not a socket"), "{}", told(&file));
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        let nowhere = folder.path().join("no/socket");
        assert!(told(&nowhere).contains("its folder does not exist"), "{}", told(&nowhere));
        let long = folder.path().join("x".repeat(200));
        assert!(told(&long).contains("take a shorter path"), "{}", told(&long));
        assert!(
            told(Path::new("/proc/socket")).contains("cannot be"),
            "{}",
            told(Path::new("/proc/socket"))
        );
    }
}
