//! Terminals in raw mode, and the promise that none stays in it.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

/// The terminals in raw mode, with what they were before. Global, since a panic in any thread must find
/// them.
static RAW: Mutex<Vec<Before>> = Mutex::new(Vec::new());

struct Before {
    id: u64,
    terminal: OwnedFd,
    settings: Termios,
}

impl Before {
    fn restore(self) {
        // At once: to wait until all output is gone could take for ever. A terminal that has gone away
        // needs no settings.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.settings);
    }
}

/// A terminal in raw mode until this value is dropped.
#[derive(Debug)]
pub(super) struct RawMode(u64);

impl RawMode {
    /// Every key reaches the guest, and the guest's output the screen, both unchanged: the guest has
    /// a line discipline of its own. `None` for what is not a terminal.
    pub(super) fn enter(terminal: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        if !isatty(terminal) {
            return Ok(None);
        }
        restore_before_panics();
        let settings = tcgetattr(terminal)?;
        let mut raw = settings.clone();
        raw.make_raw();
        let id = COUNT.fetch_add(1, Ordering::Relaxed);
        let terminal = terminal.try_clone_to_owned()?;
        // Saved first: whatever comes next, it is restored.
        lock().push(Before { id, terminal: terminal.try_clone()?, settings });
        let this = Self(id);
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Some(this))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let mut raw = lock();
        if let Some(at) = raw.iter().position(|before| before.id == self.0) {
            raw.swap_remove(at).restore();
        }
    }
}

/// Takes every terminal out of raw mode, for good. For ways out on which [`Terminal`](super::Terminal)
/// is not dropped, such as [`std::process::exit`]; panics and signals call it by themselves.
pub fn restore_terminals() {
    lock().drain(..).for_each(Before::restore);
}

fn restore_before_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // First of all, so that the message itself is readable.
            restore_terminals();
            before(info);
        }));
    });
}

fn lock() -> MutexGuard<'static, Vec<Before>> {
    RAW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Standard error for a program's own messages: in raw mode each line begins at the left all the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Messages;

impl Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        if lock().is_empty() || !stderr.is_terminal() {
            return stderr.write(bytes);
        }
        stderr.write_all(&with_returns(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The bytes with a carriage return before each line feed.
fn with_returns(bytes: &[u8]) -> Vec<u8> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut out = lines.next().unwrap_or_default().to_vec();
    for line in lines {
        out.extend(b"\r\n");
        out.extend(line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_at_the_left() {
        assert_eq!(with_returns(b"one\ntwo\n"), b"one\r\ntwo\r\n");
        assert_eq!(with_returns(b"half"), b"half");
        assert_eq!(with_returns(b"\n"), b"\r\n");
    }
}
