//! Who watches the connection.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, iter};

use cubie_virtio_core::{Config, Features};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use vhost::vhost_user::message::BackendReq;

use super::DaemonKind;
use super::daemon::Daemon;
use super::device::show;
use super::session::Shared;
use crate::connection::Connection;

/// Between two attempts to find a daemon: at first, and at most.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// A thread that hears when the daemon goes, looks for the next one, and when the device's configuration changes.
/// Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// What it knows.
pub(crate) struct Watch {
    pub(crate) path: PathBuf,
    pub(crate) kind: DaemonKind,
    pub(crate) config: Config,
    /// What the guest was offered: the next daemon has it too.
    pub(crate) offered: Features,
    pub(crate) session: Shared,
    /// Readable when it is over.
    pub(crate) stop: Arc<OwnedFd>,
}

enum News {
    Stop,
    Gone,
    Request,
}

impl Keeper {
    pub(crate) fn new(watch: Watch) -> io::Result<Self> {
        let stop = Arc::clone(&watch.stop);
        let thread = thread::Builder::new().name("vhost-user".into()).spawn(|| watch.run())?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The counter of an eventfd cannot overflow by ones.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        // It has nothing more to say, however it ended.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Watch {
    fn run(self) {
        let (mut pause, mut complained) = (PAUSE, false);
        loop {
            let daemon = self.session.lock().daemon();
            match daemon {
                Some(daemon) => {
                    let since = Instant::now();
                    if !self.keep(&daemon) {
                        return;
                    }
                    self.session.lock().lose();
                    let socket = self.path.display();
                    tracing::warn!(%socket, "the vhost-user daemon has gone: waiting for the next");
                    // One that dies at once, again and again, is not looked for all the time.
                    if since.elapsed() > LONGEST {
                        pause = PAUSE;
                    }
                }
                None => {
                    if self.stops_within(pause) {
                        return;
                    }
                    pause = (2 * pause).min(LONGEST);
                    self.look(&mut complained);
                }
            }
        }
    }

    /// Hears what the daemon says until it goes; `false` when it is over.
    fn keep(&self, daemon: &Daemon) -> bool {
        let mut listening = true;
        loop {
            let channel = daemon.channel().filter(|_| listening);
            match self.wait(daemon, channel) {
                Ok(News::Stop) => return false,
                Ok(News::Request) => {
                    let Some(channel) = channel else { continue };
                    let connection = Connection { stream: channel, stop: self.stop.as_fd() };
                    listening = self.obey(daemon, &connection);
                }
                Ok(News::Gone) | Err(_) => {
                    daemon.link().give_up();
                    return true;
                }
            }
        }
    }

    fn wait(&self, daemon: &Daemon, channel: Option<impl AsFd>) -> io::Result<News> {
        let mut all = vec![
            PollFd::new(&self.stop, PollFlags::IN),
            PollFd::new(daemon.link().stream(), PollFlags::RDHUP),
        ];
        all.extend(channel.iter().map(|channel| PollFd::new(channel, PollFlags::IN)));
        retry_on_intr(|| poll(&mut all, None))?;
        let is = |nth: usize| all.get(nth).is_some_and(|fd| !fd.revents().is_empty());
        Ok(match (is(0), is(1)) {
            (true, _) => News::Stop,
            (_, true) => News::Gone,
            _ => News::Request,
        })
    }

    /// Does what the daemon asks for; `false` when it asks for nothing more.
    fn obey(&self, daemon: &Daemon, channel: &Connection<'_>) -> bool {
        let Ok(Some(message)) = channel.receive() else { return false };
        let known = message.code == BackendReq::CONFIG_CHANGE_MSG as u32;
        let answer = u64::from(!known).to_ne_bytes();
        // First: it may be waiting for it, and would not say what has changed.
        if message.need_reply && channel.reply(message.code, &answer, None).is_err() {
            return false;
        }
        if known && self.kind.asks_config() {
            self.read_config(daemon);
        }
        true
    }

    fn read_config(&self, daemon: &Daemon) {
        // The daemon answers one at a time.
        let turn = self.session.lock();
        let said = daemon.config(&self.kind);
        drop(turn);
        match said {
            Ok(bytes) => show(&self.config, &bytes),
            Err(error) => {
                tracing::warn!(%error, "a vhost-user daemon does not say what has changed");
                daemon.link().give_up();
            }
        }
    }

    /// Looks for a daemon once.
    fn look(&self, complained: &mut bool) {
        let Ok(daemon) = Daemon::connect(&self.path, &self.kind, &self.stop) else { return };
        let (socket, offered) = (self.path.display(), daemon.offered());
        if !offered.has(self.offered) {
            if std::mem::replace(complained, true) {
                return;
            }
            tracing::warn!(%socket, "the next vhost-user daemon offers less than the one before");
            return;
        }
        let daemon = Arc::new(daemon);
        self.session.lock().go_on(Arc::clone(&daemon), self.kind.has_successors());
        if !self.config.is_empty() {
            self.read_config(&daemon);
        }
        tracing::info!(%socket, "the next vhost-user daemon goes on");
    }

    fn stops_within(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let left = iter::repeat_with(|| end.saturating_duration_since(Instant::now()));
        for left in left {
            let time =
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.stop, PollFlags::IN)], Some(&time)) {
                Ok(count) => return count > 0,
                Err(rustix::io::Errno::INTR) => {}
                // Without poll it cannot do anything.
                Err(_) => return true,
            }
        }
        true
    }
}
