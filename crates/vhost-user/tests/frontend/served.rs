//! Daemons of our own, and how any is waited for.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cubie_vhost_user::{ConnectError, DaemonKind, FrontEnd, Listener, Server};
use cubie_virtio_core::{Features, VirtioDevice};
use rustix::event::{EventfdFlags, eventfd};

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A device behind a socket. It is gone, with its connections, when this is dropped.
pub(crate) struct Served {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub(crate) fn new(path: &Path, device: impl VirtioDevice + 'static) -> Self {
        let listener = Listener::bind(path).unwrap();
        let stop = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let rings = Features::INDIRECT.with(Features::EVENT_IDX).with(Features::PACKED);
        let rings = rings.with(Features::IN_ORDER);
        let mut server = Server::new(Box::new(device)).with_rings(rings);
        let stopped = stop.try_clone().unwrap();
        let serve = move || server.run(&listener, stopped).unwrap();
        Self { stop, thread: Some(thread::spawn(serve)) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        rustix::io::write(&self.stop, &1u64.to_ne_bytes()).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// The device, once its daemon, which was started just now, listens.
pub(crate) fn connect(path: &Path, kind: &DaemonKind) -> FrontEnd {
    let end = Instant::now() + DEADLINE;
    loop {
        match FrontEnd::connect(path, kind.clone()) {
            Ok(device) => return device,
            Err(ConnectError::Missing(_) | ConnectError::NobodyListens(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < end, "the daemon does not listen");
        thread::yield_now();
    }
}
