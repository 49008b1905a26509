//! Whole messages, on a socket that is never waited for without end: at either end of it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect, recvmsg, sendmsg, socket_with,
};
use vhost::vhost_user::message::{MAX_ATTACHED_FD_ENTRIES, MAX_MSG_SIZE};

use crate::Dropped;

/// A message begins with its code, its flags and its body's size, 32 bits each in the host's order.
const HEADER: usize = 12;
/// The protocol's version, in the flags' lowest bits.
pub(crate) const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
pub(crate) const NEED_REPLY: u32 = 1 << 3;

/// A message that has begun is finished in this time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A message of the peer's.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) code: u32,
    /// It wants to be told whether the request was carried out.
    pub(crate) need_reply: bool,
    pub(crate) body: Vec<u8>,
    pub(crate) files: Vec<OwnedFd>,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// A message has begun, or the front-end has left.
    Message,
    /// Something else than the front-end has something to say.
    Notice,
    /// The daemon stops.
    Stop,
}

/// The socket to the peer, which to the daemon is the front-end. Whoever waits for it wakes up when this end stops.
pub(crate) struct Connection<'a> {
    pub(crate) stream: &'a UnixStream,
    /// Readable when this end stops.
    pub(crate) stop: BorrowedFd<'a>,
}

impl Connection<'_> {
    /// Waits until there is something to do, for ever if need be.
    pub(crate) fn wait(&self, notice: impl AsFd) -> Result<Wake, Dropped> {
        let input = PollFlags::IN;
        let mut all = [
            PollFd::new(&self.stop, input),
            PollFd::new(&notice, input),
            PollFd::new(self.stream, input),
        ];
        retry_on_intr(|| poll(&mut all, None))?;
        Ok(match all.map(|fd| !fd.revents().is_empty()) {
            [true, ..] => Wake::Stop,
            [_, true, _] => Wake::Notice,
            _ => Wake::Message,
        })
    }

    /// The next request. `None` when there is no more, or when this end stops.
    pub(crate) fn receive(&self) -> Result<Option<Message>, Dropped> {
        self.message(VERSION)
    }

    /// The answer to a request. `None` when there is none any more, or when this end stops.
    pub(crate) fn answer(&self) -> Result<Option<Message>, Dropped> {
        self.message(VERSION | REPLY)
    }

    /// The next message, which has these flags, or may want a reply besides.
    fn message(&self, expected: u32) -> Result<Option<Message>, Dropped> {
        let deadline = Instant::now() + PATIENCE;
        let (mut header, mut files) = ([0; HEADER], vec![]);
        match self.fill(&mut header, &mut files, deadline)? {
            Some(HEADER) => {}
            None | Some(0) => return Ok(None),
            Some(_) => return Err(Dropped::Truncated),
        }
        let word = |n: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| header[4 * n + byte]));
        let (code, flags, size) = (word(0), word(1), word(2));
        if flags & !NEED_REPLY != expected {
            return Err(Dropped::Flags(flags));
        }
        if size as usize > MAX_MSG_SIZE {
            return Err(Dropped::TooLong(size));
        }
        let mut body = vec![0; size as usize];
        match self.fill(&mut body, &mut files, deadline)? {
            Some(len) if len == body.len() => {}
            Some(_) => return Err(Dropped::Truncated),
            None => return Ok(None),
        }
        Ok(Some(Message { code, need_reply: flags & NEED_REPLY != 0, body, files }))
    }

    /// Answers the request `code`.
    pub(crate) fn reply(
        &self,
        code: u32,
        body: &[u8],
        file: Option<BorrowedFd<'_>>,
    ) -> Result<(), Dropped> {
        let message = assemble(code, VERSION | REPLY, body);
        let deadline = Instant::now() + PATIENCE;
        let (mut sent, mut file) = (0, file);
        while sent < message.len() {
            let files: Vec<_> = file.into_iter().collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !files.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&files));
            }
            let rest = [IoSlice::new(&message[sent..])];
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(self.stream, &rest, &mut control, flags) {
                Ok(count) => (sent, file) = (sent + count, None),
                Err(Errno::AGAIN) if !self.ready(PollFlags::OUT, deadline)? => return Ok(()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // It will not read that it has left.
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Fills `bytes` as far as there are some before the end; the files that come along are added to `files`.
    /// `None` when this end stops.
    fn fill(
        &self,
        bytes: &mut [u8],
        files: &mut Vec<OwnedFd>,
        deadline: Instant,
    ) -> Result<Option<usize>, Dropped> {
        let mut filled = 0;
        while filled < bytes.len() {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_ATTACHED_FD_ENTRIES))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut rest = [IoSliceMut::new(&mut bytes[filled..])];
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let received = match recvmsg(self.stream, &mut rest, &mut control, flags) {
                Ok(received) => received,
                Err(Errno::AGAIN) if !self.ready(PollFlags::IN, deadline)? => return Ok(None),
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(Errno::CONNRESET) => break,
                Err(errno) => return Err(errno.into()),
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    files.extend(rights);
                }
            }
            if received.flags.contains(ReturnFlags::CTRUNC) || files.len() > MAX_ATTACHED_FD_ENTRIES
            {
                return Err(Dropped::TooManyFiles);
            }
            if received.bytes == 0 {
                break;
            }
            filled += received.bytes;
        }
        Ok(Some(filled))
    }

    /// Waits for the peer; `false` when this end stops.
    pub(crate) fn ready(&self, what: PollFlags, deadline: Instant) -> Result<bool, Dropped> {
        let left = deadline.saturating_duration_since(Instant::now());
        // Ten seconds at the most.
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut all = [PollFd::new(&self.stop, PollFlags::IN), PollFd::new(self.stream, what)];
        match retry_on_intr(|| poll(&mut all, Some(&left)))? {
            0 => Err(Dropped::Stalled),
            _ => Ok(all[0].revents().is_empty()),
        }
    }
}

/// Header and body.
pub(crate) fn assemble(code: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    let header = [code, flags, body.len() as u32];
    header.into_iter().flat_map(u32::to_ne_bytes).chain(body.iter().copied()).collect()
}

/// A message that wants no answer.
pub(crate) fn notice(code: u32) -> Vec<u8> {
    assemble(code, VERSION, &[])
}

/// Connects to the socket at `path`. Never waits: who takes nobody has a queue that is full.
pub(crate) fn call(path: &Path) -> rustix::io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &address)?;
    Ok(socket.into())
}
