//! A random source that fails now and then.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use cubie_virtio_core::{Clock, Timer};
use cubie_virtio_rng::{EntropySource, MOST_BYTES, Rng};

use super::rig::{Rig, Used, until_done};
use super::{MOST_STEPS, Pieces, Rings, name};

#[derive(Arbitrary, Debug)]
struct Session {
    rings: Rings,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Offer(Pieces),
    Turn,
    /// The source gives so many times, and then fails once.
    FailAfter(u8),
}

/// Numbers that are not random, and all that were given.
#[derive(Default)]
struct Source {
    given: Vec<u8>,
    failures: usize,
    fail_after: Option<u8>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Source>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Source> {
        self.0.lock().expect("nothing has panicked")
    }
}

impl EntropySource for Shared {
    fn fill(&mut self, data: &mut [u8]) -> io::Result<()> {
        let mut source = self.lock();
        if source.fail_after == Some(0) {
            source.fail_after = None;
            source.failures += 1;
            return Err(io::Error::other("as asked for"));
        }
        source.fail_after = source.fail_after.map(|times| times - 1);
        for byte in data {
            *byte = (source.given.len() as u32).wrapping_mul(0x9e37_79b1).to_be_bytes()[0];
            source.given.push(*byte);
        }
        Ok(())
    }
}

/// Each look at it is a second later than the one before: a device that waits has waited long enough.
#[derive(Debug, Default)]
struct Seconds(AtomicU64);

impl Clock for Seconds {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn timer(&self) -> io::Result<Box<dyn Timer>> {
        Ok(Box::new(Never(UnixDatagram::unbound()?)))
    }
}

/// A timer that wakes nobody: the next turn comes by itself.
#[derive(Debug)]
struct Never(UnixDatagram);

impl AsFd for Never {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Timer for Never {
    fn set(&mut self, _at: Duration) {}
}

/// Plays the session that `bytes` stand for, and names what has come of it; `None` when they stand for none.
///
/// Each chain is filled with the next numbers, as far as it has room for them, or less when the source has
/// failed, but never with none: it waits then. No number is lost, and none is given twice.
///
/// # Panics
/// If that does not hold.
pub fn play(bytes: &[u8]) -> Option<String> {
    let session = Session::arbitrary_take_rest(Unstructured::new(bytes)).ok()?;
    let mut bench = Bench::new(session.rings);
    for step in session.steps.iter().take(MOST_STEPS) {
        match step {
            Step::Offer(pieces) => _ = bench.rig.offer(0, pieces.buffers()),
            Step::Turn => bench.turn(),
            Step::FailAfter(times) => bench.source.lock().fail_after = Some(times % 4),
        }
    }
    until_done(|| {
        bench.turn();
        bench.rig.left(0) == 0
    });
    let Bench { source, full, short, capped, .. } = bench;
    let waits = source.lock().failures - short;
    Some(name(&[("full", full), ("short", short), ("waits", waits), ("capped", capped)]))
}

struct Bench {
    rig: Rig<Rng<Shared>>,
    source: Shared,
    /// Numbers that have arrived.
    taken: usize,
    /// Chains that were filled, that got less than they could have, and that asked for more than anybody gets.
    full: usize,
    short: usize,
    capped: usize,
}

impl Bench {
    fn new(rings: Rings) -> Self {
        let source = Shared::default();
        let device = Rng::new(source.clone()).with_clock(Seconds::default());
        let rig = Rig::new(device, 1, rings.features());
        Self { rig, source, taken: 0, full: 0, short: 0, capped: 0 }
    }

    fn turn(&mut self) {
        let (failures, short) = (self.source.lock().failures, self.short);
        self.rig.turn();
        let source = self.source.lock();
        for Used { chain, written } in self.rig.used(0) {
            let (room, written) = (chain.room(), written as usize);
            let wanted = room.min(MOST_BYTES);
            assert!(written <= wanted, "{written} of {wanted} bytes");
            let end = self.taken + written;
            chain.expect(0, &source.given[self.taken..end], &mut self.rig.guest);
            self.taken = end;
            assert!(written > 0 || wanted == 0, "a driver waits for more than nothing");
            self.capped += usize::from(room > wanted);
            match written < wanted {
                true => self.short += 1,
                false => self.full += 1,
            }
        }
        assert_eq!(self.taken, source.given.len(), "numbers got lost");
        // A failure leaves a chain short, or ends the turn: the chain waits.
        let waits = (source.failures - failures) - (self.short - short);
        assert!(waits <= 1, "a source that has just failed is asked again");
        drop(source);
        self.rig.check();
    }
}
