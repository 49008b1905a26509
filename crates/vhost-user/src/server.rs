//! The daemon: one device, one front-end after the other.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use cubie_virtio_core::{Features, VirtioDevice};
use cubie_vm_irq::{Interrupt, Trigger};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use vhost::vhost_user::VhostUserProtocolFeatures as Protocol;

use crate::connection::{Connection, Message, Wake};
use crate::request::Request;
use crate::session::{Answer, Session};
use crate::{Dropped, Listener};

/// Before somebody is accepted for whom there was no descriptor.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A device behind a vhost-user socket.
///
/// It serves one front-end at a time, on the thread that calls [`Server::run`]; the device's queues are served by
/// its own.
pub struct Server {
    device: Box<dyn VirtioDevice>,
    rings: Features,
}

impl Server {
    /// A server of `device`.
    pub fn new(device: Box<dyn VirtioDevice>) -> Self {
        let rings = Features::INDIRECT.with(Features::EVENT_IDX).with(Features::PACKED);
        Self { device, rings }
    }

    /// Offers rings with these features instead of indirect descriptors, event index and packed rings.
    #[must_use]
    pub fn with_rings(self, rings: Features) -> Self {
        Self { rings, ..self }
    }

    /// The device, which is stopped.
    pub fn into_device(self) -> Box<dyn VirtioDevice> {
        self.device
    }

    /// Serves whoever connects, one after the other, until `stop` is readable. Why one was dropped, the log hears.
    ///
    /// # Errors
    /// When nobody can connect any more.
    pub fn run(&mut self, listener: &Listener, stop: impl AsFd) -> io::Result<()> {
        let mut said = String::new();
        loop {
            let input = PollFlags::IN;
            let mut all = [PollFd::new(&stop, input), PollFd::new(listener, input)];
            match poll(&mut all, None) {
                Err(Errno::INTR) => continue,
                result => result?,
            };
            if !all[0].revents().is_empty() {
                return Ok(());
            }
            let stream = match listener.accept() {
                Ok(Some(stream)) => stream,
                Ok(None) => continue,
                Err(error) if is_want(&error) => {
                    tracing::debug!(%error, "a front-end has to wait");
                    pause(&stop)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let reason = self.serve(stream, &stop).err().map(|reason| reason.to_string());
            match reason {
                // Again and again the same: one that comes back whenever it is dropped.
                Some(reason) if reason == said => {
                    tracing::debug!(reason, "a front-end was dropped");
                }
                Some(reason) => {
                    tracing::warn!(reason, "a front-end was dropped");
                    said = reason;
                }
                None => said.clear(),
            }
        }
    }

    /// Serves the front-end at the other end of `stream` until it leaves, or `stop` is readable. The device is
    /// stopped afterwards.
    ///
    /// # Errors
    /// Why it was dropped.
    pub fn serve(&mut self, stream: UnixStream, stop: impl AsFd) -> Result<(), Dropped> {
        let changed = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let told = Interrupt::new(Notice(changed.try_clone()?));
        self.device.config().connect(Some(told));
        let connection = Connection { stream: &stream, stop: stop.as_fd() };
        let mut session = Session::new(&mut *self.device, self.rings);
        let result = serve(&connection, &mut session, &changed);
        session.stop();
        self.device.config().connect(None);
        result
    }
}

/// Whether the host lacks something now that it may have again soon.
fn is_want(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| {
        [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS].contains(&errno)
    })
}

/// A moment, unless it is to stop.
fn pause(stop: &impl AsFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(stop, PollFlags::IN)], Some(&MOMENT)) {
        Err(Errno::INTR) | Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn serve(
    connection: &Connection<'_>,
    session: &mut Session<'_>,
    changed: &OwnedFd,
) -> Result<(), Dropped> {
    loop {
        match connection.wait(changed)? {
            Wake::Stop => return Ok(()),
            Wake::Notice => {
                // Only tells that there is something, which poll has said.
                let _ = rustix::io::read(changed, &mut [0; 8]);
                session.tell_config();
            }
            Wake::Message => match connection.receive()? {
                Some(message) => answer(connection, session, message)?,
                None => return Ok(()),
            },
        }
    }
}

/// Does what a message asks for, and says so. One that cannot be is the last.
fn answer(
    connection: &Connection<'_>,
    session: &mut Session<'_>,
    message: Message,
) -> Result<(), Dropped> {
    let (code, need_reply) = (message.code, message.need_reply);
    let answer =
        Request::parse(message, session.protocol).and_then(|request| session.handle(request));
    let acknowledges = need_reply && session.protocol.contains(Protocol::REPLY_ACK);
    let acknowledgement = match &answer {
        Ok(Answer::Bytes(bytes)) => return connection.reply(code, bytes, None),
        Ok(Answer::File(bytes, file)) => return connection.reply(code, bytes, Some(file.as_fd())),
        Ok(Answer::Done) => 0u64,
        Err(_) => 1,
    };
    if acknowledges {
        connection.reply(code, &acknowledgement.to_ne_bytes(), None)?;
    }
    answer.map(|_| ())
}

/// The device's configuration has changed.
struct Notice(OwnedFd);

impl Trigger for Notice {
    fn trigger(&self) {
        // The counter of an eventfd cannot overflow by ones.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}
