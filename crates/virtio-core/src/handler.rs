//! The data plane of a device, as its worker sees it.

use std::os::fd::{AsRawFd, RawFd};

/// A file descriptor that a handler waits for. The handler keeps it open as long as it runs.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub(crate) fd: RawFd,
    pub(crate) token: u32,
    /// Wait for something to read.
    pub(crate) read: bool,
    /// Wait for room to write.
    pub(crate) write: bool,
}

impl Source {
    /// [`Handler::ready`] is called with `token` when there is something to read.
    pub fn readable(fd: &(impl AsRawFd + ?Sized), token: u32) -> Self {
        Self { fd: fd.as_raw_fd(), token, read: true, write: false }
    }

    /// [`Handler::ready`] is called with `token` when there is something to read, or room to write.
    pub fn read_write(fd: &impl AsRawFd, token: u32) -> Self {
        Self { fd: fd.as_raw_fd(), token, read: true, write: true }
    }

    /// [`Handler::ready`] is called with `token` when there is room to write, or nobody reads any more.
    pub fn writable(fd: &impl AsRawFd, token: u32) -> Self {
        Self { fd: fd.as_raw_fd(), token, read: false, write: true }
    }
}

/// The data plane of a device: owns its queues and its host end while the device runs.
pub trait Handler: Send + 'static {
    /// What to wait for. Asked once, when the worker starts.
    fn sources(&self) -> Vec<Source>;

    /// All sources are waited for from now on. On the thread that starts the worker, before anything else: what
    /// this does is done when the device has started.
    fn begin(&mut self) {}

    /// Source `token` is ready. Edge triggered: serve until there is no more, since another call comes
    /// only with new events. Never waits for the guest, a person or the network: the device cannot be
    /// stopped meanwhile. Called once for each source at the start, ready or not, for what was there
    /// before.
    fn ready(&mut self, token: u32);

    /// All that was ready is served: may the worker sleep? A handler that looks by itself for a while longer
    /// does so here, a moment at a time: its sources, and whoever stops it, wait meanwhile.
    fn idle(&mut self) -> Idle {
        Idle::Sleep
    }
}

/// What a worker does that has nothing to do, see [`Handler::idle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// It waits until a source is ready.
    Sleep,
    /// It serves the sources that are ready, waits for none, and asks again.
    Look,
}
