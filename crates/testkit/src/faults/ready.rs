//! Two reasons to wake, one descriptor.

use std::cell::OnceCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::Faults;

/// A descriptor that becomes readable, for edge-triggered epoll, whenever a host end is ready or its plan of
/// faults says so: an epoll of its own.
#[derive(Debug, Default)]
pub(super) struct Ready(OnceCell<OwnedFd>);

impl Ready {
    /// Joins the plan's events with `events` of the host end, if it has any.
    pub(super) fn join(
        &self,
        faults: &Faults,
        host: Option<BorrowedFd<'_>>,
        events: EventFlags,
    ) -> BorrowedFd<'_> {
        let joined = self.0.get_or_init(|| {
            let joined = epoll::create(CreateFlags::CLOEXEC).expect("an epoll");
            let both = [Some((faults.ready_fd(), EventFlags::IN)), host.map(|fd| (fd, events))];
            for (fd, events) in both.into_iter().flatten() {
                let flags = events | EventFlags::ET;
                let added = epoll::add(&joined, fd, EventData::new_u64(0), flags);
                added.expect("a descriptor that can be polled");
            }
            joined
        });
        joined.as_fd()
    }
}
