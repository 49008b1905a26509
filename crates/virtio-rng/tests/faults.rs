//! Sources that fail, in each way that they may. In time that the test moves.

use std::time::Duration;

use cubie_testkit::{
    Descriptor, Errno, Fault, Faults, Faulty, Guest, RawDriver, VirtualClock, within,
};
use cubie_virtio_core::Features;
use cubie_virtio_rng::{HostEntropy, Rng};

const DEADLINE: Duration = Duration::from_secs(20);
/// Between two questions to a source that fails.
const PAUSE: Duration = Duration::from_millis(100);
/// Buffers that are there at once, and their bytes: two questions to the source each.
const BATCH: usize = 16;
const LEN: u32 = 5000;
const PIECE: u32 = 4096;

const ALL: [Fault; 5] = [
    Fault::Error(Errno::IO),
    Fault::Error(Errno::AGAIN),
    Fault::Error(Errno::INTR),
    Fault::Short,
    Fault::Late(1),
];

struct Bench {
    driver: RawDriver,
    faults: Faults,
    clock: VirtualClock,
    rooms: Vec<Descriptor>,
}

impl Bench {
    fn new(faults: Faults) -> Self {
        let (guest, clock) = (Guest::new(), VirtualClock::default());
        let rng = Rng::new(Faulty::new(HostEntropy, &faults)).with_clock(clock.clone());
        let slot = guest.plug(Box::new(rng));
        let driver = RawDriver::new(&slot, Features::default(), &[BATCH as u16]);
        let room = |_| Descriptor::writable(guest.buffer(LEN as usize).0, LEN);
        Self { driver, faults, clock, rooms: (0..BATCH).map(room).collect() }
    }

    /// Offers all buffers, and lets time pass until each has come back: once, and never empty.
    fn serve(&mut self) -> Vec<u32> {
        let mut heads: Vec<u32> =
            self.rooms.clone().iter().map(|room| self.driver.add(0, &[*room]).into()).collect();
        self.driver.kick(0);
        let mut written = vec![];
        while !heads.is_empty() {
            let Some(used) = self.driver.used(0) else {
                if self.clock.next_timer().is_some() {
                    self.clock.advance(PAUSE);
                }
                std::thread::yield_now();
                continue;
            };
            assert_eq!(used.head, heads.remove(0));
            written.push(used.written);
        }
        written
    }
}

#[test]
fn each_way_to_fail_makes_the_buffer_wait_and_nothing_else() {
    for fault in ALL {
        within(DEADLINE, move || {
            let mut bench = Bench::new(Faults::storm(fault, 50));
            assert_eq!(bench.serve(), [LEN; BATCH]);
            let calls = bench.faults.calls();
            assert_eq!(calls, 50 + 2 * BATCH as u64, "a question for each failure: {fault:?}");
            assert_eq!(bench.serve(), [LEN; BATCH]);
        });
    }
}

#[test]
fn storms_of_all_faults_answer_each_buffer_once_and_never_with_nothing() {
    for seed in 0..8 {
        within(DEADLINE, move || {
            let mut bench = Bench::new(Faults::seeded(seed, 2, &ALL));
            let written: Vec<_> = (0..20).flat_map(|_| bench.serve()).collect();
            assert!(written.iter().all(|len| [PIECE, LEN].contains(len)), "{written:?}");
            let injected = bench.faults.injected().len();
            assert!(injected > written.len() / 2, "a storm of {injected}");
            let most = 2 * written.len() + injected;
            assert!(bench.faults.calls() <= most as u64, "{} of {most}", bench.faults.calls());
            bench.faults.off();
            // The source may rest from its last failure still.
            assert_eq!(bench.serve(), [LEN; BATCH]);
        });
    }
}

#[test]
fn a_source_that_dies_is_asked_now_and_then_and_serves_again_when_it_is_back() {
    within(DEADLINE, || {
        let mut bench = Bench::new(Faults::storm(Fault::Death, 1));
        let room = bench.rooms[0];
        bench.driver.offer(0, &[room]);
        for seconds in 1..100 {
            assert_eq!(bench.clock.wait_for_timer(DEADLINE), seconds * PAUSE);
            assert_eq!(bench.faults.calls(), u64::from(seconds));
            bench.clock.advance(PAUSE);
        }
        bench.clock.wait_for_timer(DEADLINE);
        bench.faults.off();
        bench.clock.advance(PAUSE);
        assert_eq!(bench.driver.wait_used(0, DEADLINE).written, LEN);
    });
}

cubie_testkit::conformance!(|| {
    let source = Faulty::new(HostEntropy, &Faults::seeded(0, 2, &ALL));
    Box::new(Rng::new(source).with_clock(VirtualClock::default()))
});
