//! A card that looks for frames by itself before it sleeps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cubie_testkit::{Descriptor, Guest, RawDriver, Slot, VirtualClock, within};
use cubie_virtio_core::{Clock, Features, HostClock, Timer};
use cubie_virtio_net::{Loopback, Mac, Net};
use vm_memory::{Bytes, GuestAddress};

use crate::driver::{DEADLINE, HEADER};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const MOST: Duration = Duration::from_micros(100);
const FRAME: usize = 20;

/// The kinds of rings, and how kicks are suppressed in each.
const RINGS: [Features; 4] = [
    Features::VERSION_1,
    Features::EVENT_IDX,
    Features::PACKED,
    Features::PACKED.with(Features::EVENT_IDX),
];

/// A clock that counts how often it is read.
#[derive(Clone, Debug, Default)]
struct Watched(VirtualClock, Arc<AtomicU64>);

impl Clock for Watched {
    fn now(&self) -> Duration {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.now()
    }

    fn timer(&self) -> io::Result<Box<dyn Timer>> {
        self.0.timer()
    }
}

impl Watched {
    fn reads(&self) -> u64 {
        self.1.load(Ordering::Relaxed)
    }

    /// Lets time go by until nobody reads it any more: a kick that is heard late is something to do once more.
    #[track_caller]
    fn wait_until_unread(&self) {
        let end = Instant::now() + DEADLINE;
        let mut reads = self.reads();
        loop {
            self.0.advance(MOST);
            thread::park_timeout(Duration::from_millis(20));
            let before = std::mem::replace(&mut reads, self.reads());
            if reads == before {
                return;
            }
            assert!(Instant::now() < end, "the card never sleeps");
        }
    }
}

/// A driver that kicks when it is asked to.
struct Bench {
    guest: Guest,
    slot: Slot,
    driver: RawDriver,
    end: Loopback,
    frame: GuestAddress,
    room: GuestAddress,
    kicks: u32,
}

impl Bench {
    fn new(clock: impl Clock, polling: Option<Duration>, rings: Features) -> Self {
        let (cable, end) = Loopback::pair().unwrap();
        let mut net = Net::new(cable, Mac::made_from("test")).with_clock(clock);
        if let Some(most) = polling {
            net = net.with_polling(most);
        }
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        let driver = RawDriver::new(&slot, rings, &[16, 16]);
        let [frame, room] = [(); 2].map(|()| guest.buffer(HEADER + FRAME));
        Self { guest, slot, driver, end, frame, room, kicks: 0 }
    }

    /// Makes a buffer available, and kicks if the card wants that.
    fn offer(&mut self, queue: usize, buffer: Descriptor) {
        self.driver.add(queue, &[buffer]);
        if self.driver.queue(queue).wants_kick() {
            self.kicks += 1;
            self.driver.kick(queue);
        }
    }

    /// A frame there, and one back.
    fn there_and_back(&mut self, n: u32) {
        let len = (HEADER + FRAME) as u32;
        let payload = |buffer: GuestAddress| GuestAddress(buffer.0 + HEADER as u64);
        self.guest.memory().write_obj(n, payload(self.frame)).unwrap();
        self.offer(TRANSMIT, Descriptor::readable(self.frame.0, len));
        let frame = self.end.wait_frame(DEADLINE).expect("a frame from the guest");
        assert_eq!(frame[..4], n.to_le_bytes());
        self.driver.wait_used(TRANSMIT, DEADLINE);
        assert!(self.end.send_frame(&frame));
        self.offer(RECEIVE, Descriptor::writable(self.room.0, len));
        assert_eq!(self.driver.wait_used(RECEIVE, DEADLINE).written, len);
        assert_eq!(self.guest.memory().read_obj::<u32>(payload(self.room)).unwrap(), n);
    }

    /// Waits until the card wants no kicks.
    fn wait_until_it_looks(&self, clock: &Watched) {
        let reads = clock.reads();
        // Once it has looked twice it has told the driver before.
        while clock.reads() < reads + 8 {
            thread::yield_now();
        }
    }
}

#[test]
fn while_a_card_looks_the_driver_need_not_kick_and_afterwards_it_has_to() {
    for rings in RINGS {
        within(DEADLINE, move || {
            let clock = Watched::default();
            let mut bench = Bench::new(clock.clone(), Some(MOST), rings);
            for round in 1..4 {
                bench.wait_until_it_looks(&clock);
                (0..50).for_each(|n| bench.there_and_back(n));
                assert_eq!(bench.kicks, round - 1, "{rings:?}");
                // When it has noticed the time, it sleeps.
                while bench.kicks < round {
                    clock.0.advance(MOST);
                    let len = (HEADER + FRAME) as u32;
                    bench.offer(TRANSMIT, Descriptor::readable(bench.frame.0, len));
                    bench.driver.wait_used(TRANSMIT, DEADLINE);
                    bench.end.wait_frame(DEADLINE).expect("it is served in either case");
                }
            }
        });
    }
}

#[test]
fn a_card_that_does_not_look_wants_kicks_and_no_clock() {
    within(DEADLINE, || {
        let clock = Watched::default();
        let mut bench = Bench::new(clock.clone(), None, Features::EVENT_IDX);
        (0..50).for_each(|n| bench.there_and_back(n));
        // It may still have been awake for some of the 100 buffers.
        assert!(bench.kicks >= 50, "{} kicks", bench.kicks);
        assert_eq!(clock.reads(), 0);
    });
}

#[test]
fn a_card_that_looks_stops_at_once() {
    within(DEADLINE, || {
        let clock = Watched::default();
        let bench = Bench::new(clock.clone(), Some(MOST), Features::VERSION_1);
        bench.wait_until_it_looks(&clock);
        bench.slot.unplug();
        let reads = clock.reads();
        assert_eq!(clock.reads(), reads, "nobody looks any more");
    });
}

#[test]
fn a_pair_that_is_not_used_sleeps_although_it_has_buffers() {
    within(DEADLINE, || {
        let clock = Watched::default();
        let (cables, _ends): (Vec<_>, Vec<_>) = (0..2).map(|_| Loopback::pair().unwrap()).unzip();
        let net = Net::with_pairs(cables, Mac::made_from("test")).unwrap();
        let net = net.with_clock(clock.clone()).with_polling(MOST);
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        let several = Features::bit(virtio_bindings::virtio_net::VIRTIO_NET_F_MQ);
        let mut driver = RawDriver::new(&slot, several, &[16; 4]);
        let room = guest.buffer(HEADER + FRAME);
        for queue in [0, 2] {
            driver.offer(queue, &[Descriptor::writable(room.0, (HEADER + FRAME) as u32)]);
        }
        clock.wait_until_unread();
    });
}

/// In the host's time, in which it falls asleep whenever it likes.
#[test]
fn no_frame_is_lost_between_looking_and_sleeping() {
    for (rings, usecs) in RINGS.into_iter().zip([1, 3, 10, 30]) {
        within(DEADLINE, move || {
            let polling = Some(Duration::from_micros(usecs));
            let mut bench = Bench::new(HostClock::default(), polling, rings);
            (0..500).for_each(|n| bench.there_and_back(n));
        });
    }
}
