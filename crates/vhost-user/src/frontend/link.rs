//! A connection to a daemon: requests and their answers.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::Errno;
use vhost::vhost_user::message::FrontendReq;
use vm_memory::ByteValued;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::DaemonError;
use crate::connection::{Connection, Message, NEED_REPLY, PATIENCE, VERSION, assemble, call};

/// The socket, and whether the daemon says of each request that it was carried out.
///
/// One request at a time: whoever has more than one thread takes turns. A daemon that does not answer is given up, so
/// that nobody waits for it twice.
#[derive(Debug)]
pub(crate) struct Link {
    stream: UnixStream,
    /// Readable when the device goes.
    stop: Arc<OwnedFd>,
    /// REPLY_ACK was negotiated.
    pub(crate) acknowledges: bool,
}

impl Link {
    /// Connects to whoever listens at `path`, without waiting.
    pub(crate) fn open(path: &Path, stop: Arc<OwnedFd>) -> io::Result<Self> {
        Ok(Self { stream: call(path)?, stop, acknowledges: false })
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Asks for a number.
    pub(crate) fn number(&self, request: FrontendReq) -> Result<u64, DaemonError> {
        self.value(request, &[])
    }

    /// Asks for a value.
    pub(crate) fn value<T: ByteValued>(
        &self,
        request: FrontendReq,
        body: &[u8],
    ) -> Result<T, DaemonError> {
        let answer = self.ask(request, body)?;
        let mut value = T::zeroed();
        if answer.len() != value.as_slice().len() {
            return Err(DaemonError::Nonsense { request, what: format!("{} bytes", answer.len()) });
        }
        value.as_mut_slice().copy_from_slice(&answer);
        Ok(value)
    }

    /// Asks for something.
    pub(crate) fn ask(&self, request: FrontendReq, body: &[u8]) -> Result<Vec<u8>, DaemonError> {
        Ok(self.ask_for_files(request, body)?.body)
    }

    /// Asks for something that may come with files.
    pub(crate) fn ask_for_files(
        &self,
        request: FrontendReq,
        body: &[u8],
    ) -> Result<Message, DaemonError> {
        self.send(request, VERSION, body, &[])?;
        self.answer(request)
    }

    /// Has something done. It is done on return, if the daemon acknowledges.
    pub(crate) fn tell(
        &self,
        request: FrontendReq,
        body: &[u8],
        files: &[RawFd],
    ) -> Result<(), DaemonError> {
        if !self.acknowledges {
            return self.send(request, VERSION, body, files);
        }
        self.send(request, VERSION | NEED_REPLY, body, files)?;
        match self.answer(request)?.body.as_slice() {
            [0, 0, 0, 0, 0, 0, 0, 0] => Ok(()),
            _ => Err(DaemonError::Refused(request)),
        }
    }

    /// Nobody talks to the daemon any more: who watches the connection sees that, and may look for another.
    pub(crate) fn give_up(&self) {
        // It may have closed it itself.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    fn connection(&self) -> Connection<'_> {
        Connection { stream: &self.stream, stop: self.stop.as_fd() }
    }

    fn answer(&self, request: FrontendReq) -> Result<Message, DaemonError> {
        let answer = self.connection().answer().map_err(|error| DaemonError::of(request, error));
        match answer {
            Ok(Some(answer)) if answer.code == request as u32 => Ok(answer),
            Ok(Some(other)) => {
                self.give_up();
                let what = format!("it is for request {}", other.code);
                Err(DaemonError::Nonsense { request, what })
            }
            Ok(None) => Err(DaemonError::Gone),
            Err(error) => {
                self.give_up();
                Err(error)
            }
        }
    }

    fn send(
        &self,
        request: FrontendReq,
        flags: u32,
        body: &[u8],
        files: &[RawFd],
    ) -> Result<(), DaemonError> {
        let message = assemble(request as u32, flags, body);
        let deadline = Instant::now() + PATIENCE;
        let (mut sent, mut files) = (0, files);
        while sent < message.len() {
            match self.stream.send_with_fds(&[&message[sent..]], files) {
                Ok(count) => (sent, files) = (sent + count, &[]),
                Err(error) => match Errno::from_raw_os_error(error.errno()) {
                    Errno::INTR => {}
                    Errno::AGAIN => self.wait_for_room(request, deadline)?,
                    Errno::PIPE | Errno::CONNRESET => return Err(DaemonError::Gone),
                    errno => return Err(io::Error::from(errno).into()),
                },
            }
        }
        Ok(())
    }

    fn wait_for_room(&self, request: FrontendReq, deadline: Instant) -> Result<(), DaemonError> {
        match self.connection().ready(PollFlags::OUT, deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err(DaemonError::Gone),
            Err(error) => {
                self.give_up();
                Err(DaemonError::of(request, error))
            }
        }
    }
}
