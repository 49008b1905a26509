//! This process's signals while it stands for a command in the lab.

use crate::wire::Frame;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook::flag::register_conditional_default;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Those that end a process by default.
const ENDING: [i32; 4] = [SIGINT, SIGQUIT, SIGHUP, SIGTERM];

/// Whether signals have their usual effect on this process. A handler that was set once stays set, so that
/// the usual effect has to be made by a handler too.
static USUAL: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Keeps signals from this process until dropped, and says which have come.
#[derive(Debug)]
pub(super) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    usual: Arc<AtomicBool>,
}

impl Signals {
    /// Signals that this process was told to ignore, as by nohup(1), stay ignored.
    pub(super) fn take() -> io::Result<Signals> {
        let ignored = ignored(&fs::read_to_string("/proc/self/status")?);
        let taken: Vec<i32> =
            ENDING.into_iter().filter(|&signal| ignored & (1 << (signal - 1)) == 0).collect();
        let usual = match USUAL.get() {
            Some(usual) => Arc::clone(usual),
            None => {
                let usual = Arc::clone(USUAL.get_or_init(Arc::default));
                for &signal in &taken {
                    register_conditional_default(signal, Arc::clone(&usual))?;
                }
                usual
            }
        };
        usual.store(false, Ordering::SeqCst);
        let (read, write) = UnixStream::pair()?;
        let signals = taken.iter().copied().chain([SIGWINCH]);
        Ok(Signals {
            delivery: SignalDelivery::with_pipe(read, write, SignalOnly, signals)?,
            usual,
        })
    }

    /// Those that have come since the last call.
    pub(super) fn pending(&mut self) -> Vec<i32> {
        self.delivery.pending().collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.usual.store(true, Ordering::SeqCst);
    }
}

/// What the command shall know of a signal, and whether this process has to end with it.
pub(super) fn translate(signal: i32) -> (Frame, bool) {
    match signal {
        SIGWINCH => (Frame::Resize(super::terminal::size()), false),
        _ => (Frame::Signal(signal), [SIGHUP, SIGTERM].contains(&signal)),
    }
}

/// The set of ignored signals in `/proc/PID/status`, bit 0 for signal 1.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ignored_signals_are_read_from_the_kernels_list() {
        let status = "Name:\tnohup\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n";
        assert_eq!(ignored(status), 1 << (SIGHUP - 1) | 1 << (13 - 1));
        assert_eq!(ignored("Name:\tx\n"), 0);
    }
}
