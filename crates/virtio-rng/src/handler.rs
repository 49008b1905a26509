//! The data plane.

use std::io;

use cubie_virtio_core::{Handler, QueueState, Source, Virtqueue};
use cubie_virtq::{Segments, Serve};

use crate::EntropySource;

/// One chain gets at most so many bytes.
pub const MOST_BYTES: usize = 64 << 10;

/// Bytes asked of the source at once. They pass through the stack: a source writes ordinary memory,
/// not memory that the guest writes at the same time.
const CHUNK: usize = 4 << 10;

/// The only event: the driver's kick.
const KICK: u32 = 0;

#[derive(Debug)]
pub(crate) struct RngHandler<S> {
    source: S,
    queue: Virtqueue,
    /// The source failed last time: said once.
    failing: bool,
}

impl<S: EntropySource> RngHandler<S> {
    pub(crate) fn new(source: S, queue: Virtqueue) -> Self {
        Self { source, queue, failing: false }
    }

    /// What outlives the worker.
    pub(crate) fn park(self) -> (S, QueueState) {
        (self.source, self.queue.state())
    }
}

impl<S: EntropySource> Handler for RngHandler<S> {
    fn sources(&self) -> Vec<Source> {
        vec![Source::readable(self.queue.kick(), KICK)]
    }

    fn ready(&mut self, _token: u32) {
        let Self { source, queue, failing } = self;
        queue.drain(|mut chain| {
            let (written, result) = fill(source, chain.writable());
            if let Err(error) = &result
                && !*failing
            {
                tracing::warn!(%error, "no entropy for the guest");
            }
            *failing = result.is_err();
            Serve::Done(chain, written)
        });
    }
}

/// Fills the first [`MOST_BYTES`] of `room`, or what the source gives before it fails.
fn fill(source: &mut impl EntropySource, room: &mut Segments) -> (u32, io::Result<()>) {
    let mut chunk = [0; CHUNK];
    let wanted = room.len().min(MOST_BYTES);
    let mut written = 0;
    while written < wanted {
        let piece = &mut chunk[..CHUNK.min(wanted - written)];
        if let Err(error) = source.fill(piece) {
            return (written as u32, Err(error));
        }
        written += room.write(piece);
    }
    (written as u32, Ok(()))
}
