//! A random source that fails now and then.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use arbitrary::{Arbitrary, Unstructured};
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

/// Plays the session that `bytes` stand for, and names what has come of it; `None` when they stand for none.
///
/// Each chain is filled with the next numbers, as far as it has room for them, or less when the source has
/// failed; no number is lost, and none is given twice.
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
    let Bench { full, short, partly, capped, .. } = bench;
    Some(name(&[("full", full), ("short", short), ("partly", partly), ("capped", capped)]))
}

struct Bench {
    rig: Rig<Rng<Shared>>,
    source: Shared,
    /// Numbers that have arrived.
    taken: usize,
    /// Chains that were filled, that got less than they could have (those that got something counted again),
    /// and that asked for more than anybody gets.
    full: usize,
    short: usize,
    partly: usize,
    capped: usize,
}

impl Bench {
    fn new(rings: Rings) -> Self {
        let source = Shared::default();
        let rig = Rig::new(Rng::new(source.clone()), 1, rings.features());
        Self { rig, source, taken: 0, full: 0, short: 0, partly: 0, capped: 0 }
    }

    fn turn(&mut self) {
        self.rig.turn();
        let source = self.source.lock();
        for Used { chain, written } in self.rig.used(0) {
            let (room, written) = (chain.room(), written as usize);
            let wanted = room.min(MOST_BYTES);
            assert!(written <= wanted, "{written} of {wanted} bytes");
            let end = self.taken + written;
            chain.expect(0, &source.given[self.taken..end], &mut self.rig.guest);
            self.taken = end;
            self.partly += usize::from(written > 0 && written < wanted);
            self.capped += usize::from(room > wanted);
            match written < wanted {
                true => self.short += 1,
                false => self.full += 1,
            }
        }
        assert_eq!(self.taken, source.given.len(), "numbers got lost");
        assert_eq!(self.short, source.failures, "chains with less than there was");
        drop(source);
        self.rig.check();
    }
}
