//! What is in flight, as the daemon has noted it: kept here for its successor.

use std::os::fd::{AsRawFd, OwnedFd};

use vhost::vhost_user::message::{FrontendReq, VhostUserInflight};

use super::DaemonError;
use super::link::Link;
use super::ring::Ring;
use crate::session::inflight_bytes;

/// Memory of a daemon's, which nobody looks at but daemons.
pub(crate) struct Notes {
    /// Where in the file they are, as the daemon has said it.
    at: Vec<u8>,
    file: OwnedFd,
}

impl Notes {
    /// Asks for memory for `rings`; `None` where there are none to be had, such as for packed rings.
    pub(crate) fn ask(link: &Link, rings: &[Ring]) -> Result<Option<Self>, DaemonError> {
        let queues = rings.iter().map(|ring| ring.index() + 1).max().unwrap_or_default();
        let size = rings.iter().map(Ring::size).max().unwrap_or_default();
        let wanted = inflight_bytes(&VhostUserInflight::new(0, 0, queues, size));
        let mut answer = link.ask_for_files(FrontendReq::GET_INFLIGHT_FD, &wanted)?;
        Ok(answer.files.pop().map(|file| Self { at: answer.body, file }))
    }

    /// Hands them to the daemon, which goes on by them.
    pub(crate) fn show(&self, link: &Link) -> Result<(), DaemonError> {
        link.tell(FrontendReq::SET_INFLIGHT_FD, &self.at, &[self.file.as_raw_fd()])
    }
}
