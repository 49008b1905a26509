//! No wake-up is lost: loom runs every interleaving, and every value that a load may return, of the
//! protocol by which one side goes to sleep while the other has news.
//!
//! It is the same protocol in both directions: the device waits for kicks (`look_again` against
//! `publish` and `wants_kick`), the driver for interrupts (`enable_interrupts` against `signal`). The
//! one who brings news stores them, then reads what the other wishes; the sleeper stores its wish, then
//! looks for news. With a full fence between the two steps of both, at least one sees the other's
//! store; without it neither need, and the news lie there for ever.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;

/// Chains brought, each published by itself.
const CHAINS: u16 = 2;
/// Flags of a descriptor that is available in the first lap, in the upper half's top.
const AVAILABLE: u64 = 1 << 7 << 48;
const DISABLED: u32 = 1 << 16;
const AT_PLACE: u32 = 2 << 16;

/// How news and wishes are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An index; a flag (§2.7.6, §2.7.8: `NO_NOTIFY`, `NO_INTERRUPT`).
    SplitFlags,
    /// An index; the index to be told of.
    SplitEventIndex,
    /// A descriptor's flags; an event suppression structure with flags and place.
    PackedEvent,
}
use Kind::{PackedEvent, SplitEventIndex, SplitFlags};

/// Whose full fence is there.
#[derive(Clone, Copy)]
struct Fences {
    bringer: bool,
    sleeper: bool,
}

struct Shared {
    kind: Kind,
    index: AtomicU16,
    ring: [AtomicU64; CHAINS as usize + 1],
    wish: AtomicU32,
    /// The eventfd, a counter.
    kicks: AtomicU32,
}

impl Shared {
    /// The sleeper is awake and wishes for nothing.
    fn new(kind: Kind) -> Self {
        let asleep = match kind {
            SplitFlags => 1,
            SplitEventIndex => u16::MAX.into(),
            PackedEvent => DISABLED,
        };
        let (index, wish) = (AtomicU16::new(0), AtomicU32::new(asleep));
        Self { kind, index, ring: Default::default(), wish, kicks: AtomicU32::new(0) }
    }

    fn publish(&self, chain: u16) {
        match self.kind {
            SplitFlags | SplitEventIndex => self.index.store(chain + 1, Ordering::Release),
            PackedEvent => self.ring[usize::from(chain)].store(AVAILABLE, Ordering::Release),
        }
    }

    fn is_wished(&self, chain: u16) -> bool {
        let wish = self.wish.load(Ordering::Relaxed);
        match self.kind {
            SplitFlags => wish == 0,
            SplitEventIndex => wish as u16 == chain,
            PackedEvent => wish == AT_PLACE | u32::from(chain),
        }
    }

    fn look(&self, next: u16) -> bool {
        match self.kind {
            SplitFlags | SplitEventIndex => self.index.load(Ordering::Acquire) != next,
            PackedEvent => self.ring[usize::from(next)].load(Ordering::Acquire) == AVAILABLE,
        }
    }

    fn wish(&self, next: u16) {
        let wish = match self.kind {
            SplitFlags => 0,
            SplitEventIndex => u32::from(next),
            PackedEvent => AT_PLACE | u32::from(next),
        };
        self.wish.store(wish, Ordering::Relaxed);
    }

    fn bring(&self, fenced: bool) {
        for chain in 0..CHAINS {
            self.publish(chain);
            if fenced {
                fence(Ordering::SeqCst);
            }
            if self.is_wished(chain) {
                self.kicks.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// Takes what is there until it falls asleep. What it has taken.
    fn sleep(&self, fenced: bool) -> u16 {
        let mut next = 0;
        loop {
            while self.look(next) {
                next += 1;
            }
            self.wish(next);
            if fenced {
                fence(Ordering::SeqCst);
            }
            if !self.look(next) && self.kicks.swap(0, Ordering::AcqRel) == 0 {
                return next;
            }
        }
    }
}

fn no_wake_up_is_lost(kind: Kind, fences: Fences) {
    let mut model = loom::model::Builder::new();
    // All interleavings take half a minute, and pass as well.
    model.preemption_bound = Some(3);
    model.check(move || {
        let shared = Arc::new(Shared::new(kind));
        let bringer = {
            let shared = shared.clone();
            thread::spawn(move || shared.bring(fences.bringer))
        };
        let taken = shared.sleep(fences.sleeper);
        bringer.join().unwrap();
        let woken = shared.kicks.load(Ordering::Acquire) != 0;
        assert!(taken == CHAINS || woken, "asleep for ever after {taken} chains");
    });
}

macro_rules! protocols {
    ($($name:ident: $kind:expr;)*) => { $(mod $name {
        use super::*;

        #[test]
        fn never_loses_a_wake_up() {
            no_wake_up_is_lost($kind, Fences { bringer: true, sleeper: true });
        }

        #[test]
        #[should_panic(expected = "asleep for ever")]
        fn needs_the_fence_of_the_one_who_brings() {
            no_wake_up_is_lost($kind, Fences { bringer: false, sleeper: true });
        }

        #[test]
        #[should_panic(expected = "asleep for ever")]
        fn needs_the_fence_of_the_one_who_sleeps() {
            no_wake_up_is_lost($kind, Fences { bringer: true, sleeper: false });
        }
    })* };
}

protocols! {
    split_flags: SplitFlags;
    split_event_index: SplitEventIndex;
    packed_event: PackedEvent;
}
