//! The host's kernel.

use std::io;

use super::EntropySource;

/// The host's own generator, by `getrandom`.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostEntropy;

impl EntropySource for HostEntropy {
    fn fill(&mut self, data: &mut [u8]) -> io::Result<()> {
        getrandom::fill(data).map_err(io::Error::from)
    }
}
