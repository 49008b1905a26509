//! A front-end that says anything: messages byte by byte, with any files.

use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vhost::vhost_user::message::FrontendReq;

pub(crate) const VERSION: u32 = 1;
pub(crate) const NEED_REPLY: u32 = 1 << 3;

/// How long a test waits for anything at all.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The other end of a daemon's socket.
pub(crate) struct Wire(pub(crate) UnixStream);

impl Wire {
    /// Sends bytes together with files. `false` when the daemon has hung up.
    pub(crate) fn send(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> bool {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(files)));
        }
        let sent = sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
        sent == Ok(bytes.len())
    }

    /// Sends a well-formed request.
    pub(crate) fn request(&self, request: FrontendReq, body: &[u8], files: &[&dyn AsFd]) -> bool {
        let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
        self.send(&message(request.into(), VERSION, body), &files)
    }

    /// The body of the next answer; `None` when the daemon hangs up instead.
    pub(crate) fn answer(&self) -> Option<Vec<u8>> {
        self.0.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut header = [0; 12];
        match (&self.0).read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer"),
            Err(_) => return None,
        }
        let size = u32::from_ne_bytes(header[8..].try_into().unwrap());
        let mut body = vec![0; size as usize];
        (&self.0).read_exact(&mut body).unwrap();
        Some(body)
    }

    /// Asks for a number.
    pub(crate) fn ask(&self, request: FrontendReq) -> u64 {
        assert!(self.request(request, &[], &[]));
        number(&self.answer().expect("an answer"))
    }

    /// Says a number.
    pub(crate) fn tell(&self, request: FrontendReq, value: u64) {
        assert!(self.request(request, &value.to_ne_bytes(), &[]));
    }
}

pub(crate) fn number(body: &[u8]) -> u64 {
    u64::from_ne_bytes(body.try_into().expect("eight bytes"))
}

/// Header and body.
pub(crate) fn message(code: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    let header = [code, flags, body.len() as u32];
    header.into_iter().flat_map(u32::to_ne_bytes).chain(body.iter().copied()).collect()
}

/// A queue and a number, as many a message has them.
pub(crate) fn state(index: u32, number: u32) -> Vec<u8> {
    [index, number].into_iter().flat_map(u32::to_ne_bytes).collect()
}
