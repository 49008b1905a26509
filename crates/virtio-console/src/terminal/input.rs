//! From the keyboard to the guest.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::isatty;

use super::escape::{Escapes, Key, help};
use super::raw_mode::{Messages, restore_terminals};
use super::signals::Signals;
use super::{TerminalEvent, window_size};
use crate::WindowSize;

/// Typed bytes that wait for room in the guest's pipe.
const MOST_WAITING: usize = 4096;
/// Bytes taken from the keyboard at once.
const PIECE: usize = 4096;

/// The thread between the keyboard and the guest's pipe; it also has an ear for signals.
pub(super) struct Input {
    /// The guest's end, non-blocking.
    pub(super) guest: OwnedFd,
    stop: OwnedFd,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Input {
    /// `screen` is whose size counts.
    pub(super) fn start<F>(keyboard: OwnedFd, screen: OwnedFd, on_event: F) -> io::Result<Self>
    where
        F: FnMut(TerminalEvent) + Send + 'static,
    {
        let (guest, pipe) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let signals = Signals::new()?;
        let reader = Reader {
            person: isatty(&keyboard),
            size: window_size(screen.as_fd()),
            stop: stop.try_clone()?,
            waiting: VecDeque::new(),
            escapes: Escapes::default(),
            ended: false,
            terminated: false,
            keyboard,
            screen,
            pipe,
            signals,
            on_event,
        };
        let thread = thread::Builder::new().name("terminal-input".into());
        let thread = Some(thread.spawn(move || reader.run())?);
        Ok(Self { guest, stop, thread })
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Reader<F> {
    keyboard: OwnedFd,
    /// The keyboard is a terminal's, not a file or a pipe.
    person: bool,
    /// No more will be typed. The machine runs on.
    ended: bool,
    screen: OwnedFd,
    size: WindowSize,
    pipe: OwnedFd,
    waiting: VecDeque<u8>,
    escapes: Escapes,
    signals: Signals,
    /// A signal has asked for the end once already.
    terminated: bool,
    stop: OwnedFd,
    on_event: F,
}

#[derive(Default)]
struct Ready {
    stop: bool,
    signals: bool,
    keyboard: bool,
}

impl<F: FnMut(TerminalEvent)> Reader<F> {
    fn run(mut self) -> io::Result<()> {
        loop {
            let Ready { stop, signals, keyboard } = self.wait()?;
            if stop {
                return Ok(());
            }
            if signals {
                self.take_signals();
            }
            if keyboard {
                self.read();
            }
            self.pass_on();
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut fds = vec![
            PollFd::new(&self.stop, PollFlags::IN),
            PollFd::from_borrowed_fd(self.signals.fd(), PollFlags::IN),
        ];
        // A person is always listened to, for the escapes. A file or pipe can wait, and loses nothing.
        let listen = !self.ended && (self.person || self.waiting.len() < MOST_WAITING);
        if listen {
            fds.push(PollFd::new(&self.keyboard, PollFlags::IN));
        }
        if !self.waiting.is_empty() {
            fds.push(PollFd::new(&self.pipe, PollFlags::OUT));
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let ready = |at: usize| !fds[at].revents().is_empty();
        Ok(Ready { stop: ready(0), signals: ready(1), keyboard: listen && ready(2) })
    }

    fn read(&mut self) {
        let mut piece = [0; PIECE];
        match rustix::io::read(&self.keyboard, &mut piece) {
            Ok(0) => self.ended = true,
            Ok(count) => piece[..count].iter().for_each(|byte| self.key(*byte)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Such as a terminal that was hung up.
            Err(_) => self.ended = true,
        }
    }

    fn key(&mut self, byte: u8) {
        match self.escapes.filter(byte) {
            // A person who types that far ahead of the guest loses keys, as at any terminal.
            Key::Guest(_) if self.person && self.waiting.len() >= MOST_WAITING => {}
            Key::Guest(byte) => self.waiting.push_back(byte),
            Key::Quit => (self.on_event)(TerminalEvent::Quit),
            Key::Status => (self.on_event)(TerminalEvent::Status),
            Key::Help => {
                // Without a standard error there is nobody to help.
                let _ = Messages.write_all(help().as_bytes());
            }
            Key::Nothing => {}
        }
    }

    /// Gives the guest what there is room for.
    fn pass_on(&mut self) {
        while !self.waiting.is_empty() {
            match rustix::io::write(&self.pipe, self.waiting.make_contiguous()) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(Errno::AGAIN) => return,
                // There is no guest any more.
                Err(_) => self.waiting.clear(),
            }
        }
    }

    fn take_signals(&mut self) {
        for signal in self.signals.pending() {
            if signal == Signals::RESIZED {
                let size = window_size(self.screen.as_fd());
                if std::mem::replace(&mut self.size, size) != size {
                    (self.on_event)(TerminalEvent::Resized(size));
                }
            } else if std::mem::replace(&mut self.terminated, true) {
                restore_terminals();
                Signals::act_by_default(signal);
            } else {
                (self.on_event)(TerminalEvent::Terminated(signal));
            }
        }
    }
}
