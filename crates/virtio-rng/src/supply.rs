//! How much of the source a guest gets, and when.

use std::io;
use std::time::Duration;

use cubie_virtio_core::{RateLimit, TokenBucket};
use cubie_virtq::Segments;

use crate::EntropySource;

/// One chain gets at most so many bytes.
pub const MOST_BYTES: usize = 64 << 10;

/// Bytes asked of the source at once. They pass through the stack: a source writes ordinary memory,
/// not memory that the guest writes at the same time.
const CHUNK: usize = 4 << 10;

/// A source that has nothing to give is asked again so much later, and not before, whatever the guest does.
const PAUSE: Duration = Duration::from_millis(100);

/// The source with all that outlives the worker: a driver that starts the device anew gets neither another
/// burst, nor the source's ear, nor a second line in the log.
#[derive(Debug)]
pub(crate) struct Supply<S> {
    source: S,
    bucket: Option<TokenBucket>,
    /// The source had nothing to give: it is not asked before.
    paused_until: Duration,
    /// The log has heard of a source that fails: once is enough, since it may do so as often as the guest asks.
    told: bool,
}

impl<S: EntropySource> Supply<S> {
    pub(crate) fn new(source: S, limit: Option<RateLimit>) -> Self {
        let bucket = limit.map(TokenBucket::new);
        Self { source, bucket, paused_until: Duration::ZERO, told: false }
    }

    /// Fills the front of `room` with what is due to it, at least one byte if there is room for one.
    /// How many bytes, or the time to try again.
    pub(crate) fn fill(&mut self, room: &mut Segments, now: Duration) -> Result<u32, Duration> {
        let burst = self.bucket.map_or(u64::MAX, |bucket| bucket.limit().burst.get());
        let wanted = (room.len().min(MOST_BYTES) as u64).min(burst);
        if wanted == 0 {
            return Ok(0);
        }
        let due = self.bucket.map_or(Duration::ZERO, |bucket| bucket.ready_at(wanted));
        let due = due.max(self.paused_until);
        if now < due {
            return Err(due);
        }
        let (written, result) = pour(&mut self.source, room, wanted as usize);
        if let Err(error) = result {
            self.complain(&error);
        }
        if let Some(bucket) = &mut self.bucket {
            bucket.take(written as u64, now);
        }
        if written == 0 {
            self.paused_until = now.saturating_add(PAUSE);
            return Err(self.paused_until);
        }
        Ok(written as u32)
    }

    fn complain(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.told, true) {
            tracing::debug!(%error, "no entropy for the guest");
        } else {
            tracing::warn!(%error, "no entropy for the guest");
        }
    }
}

/// Fills the first `wanted` bytes of `room`, or what the source gives before it fails.
fn pour(
    source: &mut impl EntropySource,
    room: &mut Segments,
    wanted: usize,
) -> (usize, io::Result<()>) {
    let mut chunk = [0; CHUNK];
    let mut written = 0;
    while written < wanted {
        let piece = &mut chunk[..CHUNK.min(wanted - written)];
        if let Err(error) = source.fill(piece) {
            return (written, Err(error));
        }
        written += room.write(piece);
    }
    (written, Ok(()))
}
