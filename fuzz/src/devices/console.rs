//! A console whose driver, keyboard and screen do anything.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use arbitrary::{Arbitrary, Unstructured};
use cubie_virtio_console::{Console, ConsoleBackend, WindowSize};
use cubie_virtq::Segments;

use super::rig::{Rig, Used, until_done};
use super::{MOST_STEPS, Pieces, Rings, name};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

#[derive(Arbitrary, Debug)]
struct Session {
    rings: Rings,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Offer(bool, Pieces),
    Turn,
    Type(Vec<u8>),
    /// What the screen will do, once each; then it takes all.
    Screen(Vec<Screen>),
    /// Nobody will ever type again.
    HangUp,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Screen {
    Takes(u16),
    Full,
    Broken,
}

/// Keyboard and screen.
#[derive(Default)]
struct Desk {
    typed: VecDeque<u8>,
    hung_up: bool,
    screen: VecDeque<Screen>,
    /// What has happened at the screen since the last turn, in this order.
    seen: Vec<Seen>,
}

enum Seen {
    Bytes(Vec<u8>),
    Full,
    Refused,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Desk>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().expect("nothing has panicked")
    }
}

impl ConsoleBackend for Shared {
    fn read(&mut self, room: &mut Segments) -> io::Result<usize> {
        let mut desk = self.lock();
        assert!(!room.is_empty(), "asked for nothing");
        if desk.typed.is_empty() {
            return if desk.hung_up { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let count = desk.typed.len().min(room.len());
        let bytes: Vec<_> = desk.typed.drain(..count).collect();
        Ok(room.write(&bytes))
    }

    fn write(&mut self, data: &mut Segments) -> io::Result<usize> {
        let mut desk = self.lock();
        assert!(!data.is_empty(), "nothing was printed");
        let most = match desk.screen.pop_front() {
            None => data.len(),
            Some(Screen::Takes(count)) => data.len().min(usize::from(count).max(1)),
            Some(Screen::Full) => {
                desk.seen.push(Seen::Full);
                return Err(ErrorKind::WouldBlock.into());
            }
            Some(Screen::Broken) => {
                desk.seen.push(Seen::Refused);
                return Err(ErrorKind::BrokenPipe.into());
            }
        };
        let mut bytes = vec![0; most];
        assert_eq!(data.read(&mut bytes), most);
        desk.seen.push(Seen::Bytes(bytes));
        Ok(most)
    }

    fn input_ready(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn output_ready(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Plays the session that `bytes` stand for, and names what has come of it; `None` when they stand for none.
///
/// What is typed arrives once and in order, in chains that have room for it. What is printed appears once
/// and in order, however little the screen takes at a time; after an error, the rest of that chain is gone.
///
/// # Panics
/// If that does not hold.
pub fn play(bytes: &[u8]) -> Option<String> {
    let session = Session::arbitrary_take_rest(Unstructured::new(bytes)).ok()?;
    let mut bench = Bench::new(session.rings);
    for step in session.steps.into_iter().take(MOST_STEPS) {
        match step {
            Step::Offer(transmit, pieces) => {
                _ = bench.rig.offer(usize::from(transmit), pieces.buffers());
            }
            Step::Turn => bench.turn(),
            Step::Type(bytes) => bench.type_in(&bytes),
            Step::Screen(acts) => bench.desk.lock().screen.extend(acts),
            Step::HangUp => bench.desk.lock().hung_up = true,
        }
    }
    until_done(|| {
        bench.turn();
        bench.rig.left(TRANSMIT) == 0
    });
    let Bench { counts: Counts { typed, printed, partly, resumed, refused, empty }, .. } = bench;
    Some(name(&[
        ("typed", typed),
        ("printed", printed),
        ("partly", partly),
        ("refused", refused),
        ("resumed", resumed),
        ("empty", empty),
    ]))
}

struct Bench {
    rig: Rig<Console<Shared>>,
    desk: Shared,
    /// Typed, and not yet arrived.
    typed: VecDeque<u8>,
    /// Bytes of the next chain to be printed that the screen has.
    sent: usize,
    counts: Counts,
}

/// Chains of each kind.
#[derive(Default)]
struct Counts {
    typed: usize,
    printed: usize,
    partly: usize,
    /// Of which something was printed in an earlier turn.
    resumed: usize,
    refused: usize,
    empty: usize,
}

impl Bench {
    fn new(rings: Rings) -> Self {
        let desk = Shared::default();
        let console = Console::new(desk.clone(), WindowSize::default());
        let rig = Rig::new(console, 2, rings.features());
        Self { rig, desk, typed: VecDeque::new(), sent: 0, counts: Counts::default() }
    }

    fn type_in(&mut self, bytes: &[u8]) {
        let mut desk = self.desk.lock();
        if !desk.hung_up {
            desk.typed.extend(bytes);
            self.typed.extend(bytes);
        }
    }

    fn turn(&mut self) {
        if self.rig.is_fresh(TRANSMIT) {
            // It is taken for a new queue: whoever begins anew has its buffers back.
            self.sent = 0;
        }
        self.counts.resumed += usize::from(self.sent > 0);
        self.rig.turn();
        self.printed();
        self.received();
        self.rig.check();
    }

    fn received(&mut self) {
        for Used { chain, written } in self.rig.used(RECEIVE) {
            let (room, written) = (chain.room(), written as usize);
            // A keyboard gives what there is.
            assert_eq!(written, room.min(self.typed.len()));
            assert!(written > 0 || room == 0, "an empty chain came back for nothing");
            let bytes: Vec<_> = self.typed.drain(..written).collect();
            chain.expect(0, &bytes, &mut self.rig.guest);
            *(if room == 0 { &mut self.counts.empty } else { &mut self.counts.typed }) += 1;
        }
        assert_eq!(self.desk.lock().typed, self.typed, "what was typed got lost");
        let waits = self.rig.left(RECEIVE) > 0;
        assert!(!waits || self.typed.is_empty(), "there is input, and room for it");
    }

    fn printed(&mut self) {
        let seen = std::mem::take(&mut self.desk.lock().seen);
        let mut seen = seen.into_iter().peekable();
        for Used { chain, written } in self.rig.used(TRANSMIT) {
            assert_eq!(written, 0, "nothing is written to what is printed");
            let bytes = chain.readable(&self.rig.guest);
            let mut refused = false;
            while self.sent < bytes.len() && !refused {
                match seen.next().expect("the whole chain was offered to the screen") {
                    Seen::Bytes(some) => self.sent = arrived(&bytes, self.sent, &some),
                    Seen::Refused => refused = true,
                    Seen::Full => panic!("a chain is given back, and the screen was full"),
                }
            }
            *(if refused { &mut self.counts.refused } else { &mut self.counts.printed }) += 1;
            self.sent = 0;
        }
        let Some(bytes) = self.rig.next(TRANSMIT).map(|chain| chain.readable(&self.rig.guest))
        else {
            assert!(seen.next().is_none(), "something was printed that nobody had offered");
            return;
        };
        // The chain that waits for the screen.
        for event in seen {
            match event {
                Seen::Bytes(some) => {
                    self.sent = arrived(&bytes, self.sent, &some);
                    self.counts.partly += 1;
                }
                Seen::Full => assert!(self.sent < bytes.len()),
                Seen::Refused => panic!("a chain that was refused is still there"),
            }
        }
    }
}

/// How far the chain `bytes` is printed, when `some` come behind the first `sent`.
fn arrived(bytes: &[u8], sent: usize, some: &[u8]) -> usize {
    let end = sent + some.len();
    assert_eq!(bytes.get(sent..end), Some(some), "other bytes than the next ones");
    end
}
