//! A daemon on a thread of its own.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use cubie_vhost_user::{Dropped, Listener, Server};
use cubie_virtio_core::VirtioDevice;
use rustix::event::{EventfdFlags, eventfd};

use crate::wire::DEADLINE;

/// Serves one front-end.
pub(crate) struct Daemon {
    pub(crate) stop: OwnedFd,
    end: Receiver<Result<(), Dropped>>,
}

impl Daemon {
    /// A daemon of `device`, and the socket of its front-end.
    pub(crate) fn of(device: impl VirtioDevice + 'static) -> (Self, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let stop = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let (told, end) = channel();
        let mut server = Server::new(Box::new(device));
        let stopped = stop.try_clone().unwrap();
        thread::spawn(move || told.send(server.serve(theirs, stopped)));
        (Self { stop, end }, ours)
    }

    /// How it ended.
    pub(crate) fn end(self) -> Result<(), Dropped> {
        self.end.recv_timeout(DEADLINE).expect("the daemon ends")
    }

    /// Why it has dropped its front-end.
    pub(crate) fn reason(self) -> String {
        self.end().expect_err("it was dropped").to_string()
    }
}

/// Serves whoever connects to a socket in a folder of its own.
pub(crate) struct Served {
    folder: tempfile::TempDir,
    stop: OwnedFd,
    end: Receiver<std::io::Result<()>>,
}

impl Served {
    pub(crate) fn new(device: impl VirtioDevice + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = Listener::bind(folder.path().join("socket")).unwrap();
        let stop = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let (told, end) = channel();
        let mut server = Server::new(Box::new(device));
        let stopped = stop.try_clone().unwrap();
        thread::spawn(move || {
            let end = server.run(&listener, stopped);
            drop(listener);
            told.send(end)
        });
        Self { folder, stop, end }
    }

    pub(crate) fn path(&self) -> String {
        self.folder.path().join("socket").to_str().unwrap().into()
    }

    pub(crate) fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path()).unwrap()
    }

    /// Stops it, whoever is served.
    pub(crate) fn end(self) {
        rustix::io::write(&self.stop, &1u64.to_ne_bytes()).unwrap();
        self.end.recv_timeout(DEADLINE).expect("the daemon ends").unwrap();
        assert!(!self.folder.path().join("socket").exists());
    }
}
