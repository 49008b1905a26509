//! Signals that concern a terminal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::flag::register_conditional_default;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::low_level::emulate_default_handler;

/// What asks the program to end.
const TERMINATING: [i32; 3] = [SIGTERM, SIGHUP, SIGINT];

/// While nobody listens, these signals act as if this crate did not exist: a handler once installed
/// stays for good, and would swallow them.
struct Unheard {
    listeners: Mutex<usize>,
    flag: Arc<AtomicBool>,
}

static UNHEARD: LazyLock<io::Result<Unheard>> = LazyLock::new(|| {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in heeded()? {
        register_conditional_default(signal, Arc::clone(&flag))?;
    }
    Ok(Unheard { listeners: Mutex::new(0), flag })
});

/// Listens to signals until it is dropped.
pub(super) struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// The window has another size.
    pub(super) const RESIZED: i32 = SIGWINCH;

    pub(super) fn new() -> io::Result<Self> {
        listen(1)?;
        Self::deliver().inspect_err(|_| drop(listen(-1)))
    }

    fn deliver() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        let signals = heeded()?.into_iter().chain([Self::RESIZED]);
        Ok(Self(SignalDelivery::with_pipe(reader, writer, SignalOnly, signals)?))
    }

    /// Readable when a signal has come.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }

    /// What has come since the last time.
    pub(super) fn pending(&mut self) -> impl Iterator<Item = i32> + use<> {
        self.0.pending()
    }

    /// Ends the program as `signal` would have done.
    pub(super) fn act_by_default(signal: i32) {
        // Fails only for signals that do not exist.
        let _ = emulate_default_handler(signal);
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // It has worked before.
        let _ = listen(-1);
    }
}

fn listen(change: isize) -> io::Result<()> {
    let unheard = UNHEARD.as_ref().map_err(|error| io::Error::new(error.kind(), error))?;
    let mut listeners = unheard.listeners.lock().unwrap_or_else(PoisonError::into_inner);
    *listeners = listeners.saturating_add_signed(change);
    unheard.flag.store(*listeners == 0, Ordering::SeqCst);
    Ok(())
}

/// The terminating signals that the program was not told to ignore when it was started, as nohup(1)
/// does with SIGHUP.
fn heeded() -> io::Result<Vec<i32>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    Ok(TERMINATING.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0).collect())
}
