//! The person's terminal.
//!
//! ```text
//!   keyboard ──► input thread ──► pipe ──► guest          guest ──► pipe ──► output thread ──► screen
//!   signals  ──►   │ escapes, window size                    (console's worker, or a UART)
//!                  └──► TerminalEvent ──► program
//! ```
//!
//! The descriptors of keyboard and screen are shared with the shell, so their flags are left alone;
//! the guest's ends are pipes of our own, non-blocking and bounded. Neither thread ever holds up a
//! device, nor a device them: escapes work when the guest reads nothing and when the screen is stuck.

mod escape;
mod input;
mod output;
mod raw_mode;
mod signals;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::termios::tcgetwinsize;

use crate::{Stream, WindowSize};
use input::Input;
use output::Output;
use raw_mode::RawMode;

pub use output::TerminalWriter;
pub use raw_mode::{Messages, restore_terminals};

/// What a terminal tells the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalEvent {
    /// The person wants the machine to end (Ctrl-A x).
    Quit,
    /// The person wants to know how the machine is doing (Ctrl-A s).
    Status,
    /// The window has another size: for [`Resizer::resize`](crate::Resizer::resize).
    Resized(WindowSize),
    /// This signal (SIGTERM, SIGHUP, SIGINT) asks the program to end. The second one ends it.
    Terminated(i32),
}

/// Keyboard and screen, joined to the guest as long as this value lives.
///
/// A terminal is in raw mode meanwhile, so that the guest gets every key and its output arrives
/// unchanged; it is restored when this value is dropped, before the message of a panic, and when a
/// signal ends the program. What is no terminal works as well: a pipe, a file, `/dev/null`. The end of
/// the input does not end the machine.
pub struct Terminal {
    // Dropped in this order: the last output is shown, then the terminal is as before.
    input: Input,
    output: Output,
    screen: OwnedFd,
    _raw: Option<RawMode>,
}

impl Terminal {
    /// Standard input and output. `on_event` is called on the input thread: it must not block, and not
    /// drop the terminal; a channel's `send` is right.
    pub fn open(on_event: impl FnMut(TerminalEvent) + Send + 'static) -> io::Result<Self> {
        let keyboard = io::stdin().as_fd().try_clone_to_owned()?;
        let screen = io::stdout().as_fd().try_clone_to_owned()?;
        Self::with(keyboard, screen, on_event)
    }

    /// Any keyboard and screen, see [`Terminal::open`].
    pub fn with(
        keyboard: OwnedFd,
        screen: OwnedFd,
        on_event: impl FnMut(TerminalEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let raw = RawMode::enter(keyboard.as_fd())?;
        let output = Output::start(screen.try_clone()?)?;
        let input = Input::start(keyboard, screen.try_clone()?, on_event)?;
        Ok(Self { input, output, screen, _raw: raw })
    }

    /// The window's size now, 0 × 0 if the screen is no terminal.
    pub fn size(&self) -> WindowSize {
        window_size(self.screen.as_fd())
    }

    /// The host end for a [`Console`](crate::Console).
    pub fn backend(&self) -> io::Result<Stream> {
        Stream::new(self.reader()?, self.output.guest.try_clone()?)
    }

    /// What is typed, for another device than [`Console`](crate::Console), such as a UART: a
    /// non-blocking pipe. Each byte goes to one reader only.
    pub fn reader(&self) -> io::Result<OwnedFd> {
        self.input.guest.try_clone()
    }

    /// Where another device prints, see [`Terminal::reader`].
    pub fn writer(&self) -> io::Result<TerminalWriter> {
        Ok(TerminalWriter(self.output.guest.try_clone()?))
    }
}

fn window_size(screen: BorrowedFd<'_>) -> WindowSize {
    let size = tcgetwinsize(screen).map(|size| (size.ws_col, size.ws_row));
    let (columns, rows) = size.unwrap_or_default();
    WindowSize { columns, rows }
}
