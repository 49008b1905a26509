//! The host's end.

mod in_memory;

use std::io;

pub use in_memory::InMemory;

/// Where the total is kept. It runs on the device's worker thread.
pub trait NewDeviceBackend: Send + 'static {
    /// Adds `amount`, without waiting for long. The total from now on.
    ///
    /// # Errors
    /// When the host fails: the driver is told, and nothing was added.
    fn add(&mut self, amount: u32) -> io::Result<u64>;
}
