//! The host's end of the connections.

use std::net::{Ipv4Addr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::guest::{each, receive, send};
use crate::work::Direction;

/// Waits for so many connections of a guest and moves so many bytes through all of them together.
pub(crate) struct Host {
    pub(crate) port: u16,
    thread: JoinHandle<anyhow::Result<Duration>>,
}

impl Host {
    pub(crate) fn start(
        direction: Direction,
        bytes: usize,
        streams: usize,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let port = listener.local_addr()?.port();
        let thread = thread::spawn(move || {
            let accepted = (0..streams).map(|_| Ok(listener.accept()?.0));
            let accepted = accepted.collect::<anyhow::Result<Vec<_>>>()?;
            let (start, bytes) = (Instant::now(), bytes / streams);
            match direction {
                Direction::ToHost => each(accepted, move |stream| receive(stream, bytes))?,
                Direction::ToGuest => each(accepted, move |stream| send(stream, bytes))?,
            }
            Ok(start.elapsed())
        });
        Ok(Self { port, thread })
    }

    /// From the last connection's begin to the last one's end.
    pub(crate) fn join(self) -> anyhow::Result<Duration> {
        self.thread.join().map_err(|_| anyhow::anyhow!("the host's end panicked"))?
    }
}
