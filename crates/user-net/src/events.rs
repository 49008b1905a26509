//! What happens on the host, behind one file descriptor.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::UserNetError;

/// Events that are taken at once.
const BATCH: usize = 64;
/// The token of the timer and of the eventfd, which need no care but to have woken somebody.
const NOBODY: Token = Token(0);

/// Whose event it is. Each watched file has another one, for ever: an event that comes late finds
/// nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token(u64);

/// All of the host's sockets, a timer and an eventfd in one epoll, edge triggered.
#[derive(Debug)]
pub(crate) struct Events {
    epoll: OwnedFd,
    timer: OwnedFd,
    wake: OwnedFd,
    last: Token,
    /// The last batch was not a full one.
    all: bool,
    /// When the timer will have fired.
    armed: Option<Instant>,
    /// The eventfd was written, and nobody has come since.
    woken: bool,
}

impl Events {
    pub(crate) fn new() -> Result<Self, UserNetError> {
        let refused = |what| {
            move |error: rustix::io::Errno| UserNetError::Host { what, source: error.into() }
        };
        let this = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).map_err(refused("an epoll"))?,
            timer: timerfd_create(
                TimerfdClockId::Monotonic,
                TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
            )
            .map_err(refused("a timer"))?,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(refused("an eventfd"))?,
            last: NOBODY,
            all: true,
            armed: None,
            woken: false,
        };
        for own in [&this.timer, &this.wake] {
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&this.epoll, own, epoll::EventData::new_u64(NOBODY.0), flags)
                .map_err(refused("an epoll"))?;
        }
        Ok(this)
    }

    /// Watches `file` until it is closed.
    pub(crate) fn watch(&mut self, file: impl AsFd) -> io::Result<Token> {
        let token = Token(self.last.0 + 1);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP;
        let data = epoll::EventData::new_u64(token.0);
        epoll::add(&self.epoll, file, data, flags | epoll::EventFlags::ET)?;
        self.last = token;
        Ok(token)
    }

    /// Whose events have come: some of them, none when there are no more.
    pub(crate) fn take(&mut self, tokens: &mut Vec<Token>) {
        self.woken = false;
        let (now, mut list) = (Timespec::default(), [const { MaybeUninit::uninit() }; BATCH]);
        tokens.clear();
        // Fails only for a descriptor that is no epoll.
        if let Ok((events, _)) = epoll::wait(&self.epoll, &mut list, Some(&now)) {
            tokens.extend(events.iter().map(|event| Token(event.data.u64())));
        }
        self.all = tokens.len() < BATCH;
    }

    /// Whether [`Events::take`] has had all that there were.
    pub(crate) fn were_all(&self) -> bool {
        self.all
    }

    /// Makes the descriptor ready, once until somebody comes.
    pub(crate) fn wake(&mut self) {
        if !self.woken {
            // The counter cannot overflow by ones.
            self.woken = rustix::io::write(&self.wake, &1u64.to_ne_bytes()).is_ok();
        }
    }

    /// Whether the timer fires at `at` or before, and has not yet done so.
    pub(crate) fn is_set_for(&self, at: Instant, now: Instant) -> bool {
        self.armed.is_some_and(|armed| armed <= at && armed > now)
    }

    /// Makes the descriptor ready at `at`, or before.
    pub(crate) fn set_timer(&mut self, at: Instant, now: Instant) {
        if self.is_set_for(at, now) {
            return;
        }
        // Zero would mean never.
        let left = at.saturating_duration_since(now).max(Duration::from_micros(1));
        let Ok(it_value) = Timespec::try_from(left) else { return };
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        if timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).is_ok() {
            self.armed = Some(at);
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
