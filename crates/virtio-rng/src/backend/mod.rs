//! Where random bytes come from.

mod host;

use std::io;

pub use host::HostEntropy;

/// A source of random bytes. It runs on the device's worker thread.
pub trait EntropySource: Send + 'static {
    /// Fills `data`, without blocking for long.
    fn fill(&mut self, data: &mut [u8]) -> io::Result<()>;
}
