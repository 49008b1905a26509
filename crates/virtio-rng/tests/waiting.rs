//! Buffers that wait: for a source that fails, and for what a limit allows. In time that the test moves.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RAM_BASE, RawDriver, Slot, Used, VirtualClock};
use cubie_virtio_core::{
    Clock, Features, QueueResources, QueueState, Queues, RateLimit, VirtioDevice,
};
use cubie_virtio_rng::{EntropySource, Rng};
use cubie_virtq::driver::{Buffer, DriverQueue};
use cubie_virtq::{OnFault, QueueParams};
use cubie_vm_irq::Interrupt;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const DEADLINE: Duration = Duration::from_secs(20);
/// Between two questions to a source that fails.
const PAUSE: Duration = Duration::from_millis(100);

/// Gives so many pieces, then fails until it is given more.
#[derive(Clone, Default)]
struct Pieces {
    left: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl Pieces {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn give(&self, pieces: usize) {
        self.left.store(pieces, Ordering::SeqCst);
    }
}

impl EntropySource for Pieces {
    fn fill(&mut self, data: &mut [u8]) -> io::Result<()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let less = |left: usize| left.checked_sub(1);
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        left.map_err(|_| io::Error::other("nothing left"))?;
        data.fill(0x5a);
        Ok(())
    }
}

fn limit(per_second: u64, burst: u64) -> RateLimit {
    let [per_second, burst] = [per_second, burst].map(|bytes| NonZeroU64::new(bytes).unwrap());
    RateLimit { per_second, burst }
}

/// A source without end.
fn plenty() -> Pieces {
    let pieces = Pieces::default();
    pieces.give(usize::MAX);
    pieces
}

fn driver(slot: &Slot) -> RawDriver {
    RawDriver::new(slot, Features::default(), &[16])
}

fn room(guest: &Guest, len: u32) -> Descriptor {
    Descriptor::writable(guest.buffer(len as usize).0, len)
}

#[test]
fn a_buffer_waits_for_a_source_that_fails_and_is_never_given_back_empty() {
    let (guest, clock, pieces) = (Guest::new(), VirtualClock::default(), Pieces::default());
    let slot = guest.plug(Box::new(Rng::new(pieces.clone()).with_clock(clock.clone())));
    let mut driver = driver(&slot);
    let room = room(&guest, 8);
    let head = driver.offer(0, &[room]).into();
    for times in 1..100 {
        assert_eq!(clock.wait_for_timer(DEADLINE), times * PAUSE);
        assert_eq!((pieces.asked(), driver.used(0)), (times as usize, None));
        clock.advance(PAUSE);
    }
    clock.wait_for_timer(DEADLINE);
    pieces.give(2);
    clock.advance(PAUSE);
    assert_eq!(driver.wait_used(0, DEADLINE), Used { head, written: 8 });
    driver.offer(0, &[room]);
    assert_eq!(driver.wait_used(0, DEADLINE).written, 8, "once it is back it is asked at once");
}

#[test]
fn a_source_that_fails_in_the_middle_gives_what_it_has() {
    let (guest, clock, pieces) = (Guest::new(), VirtualClock::default(), Pieces::default());
    let slot = guest.plug(Box::new(Rng::new(pieces.clone()).with_clock(clock.clone())));
    let mut driver = driver(&slot);
    pieces.give(1);
    driver.offer(0, &[room(&guest, 5000)]);
    assert_eq!(driver.wait_used(0, DEADLINE).written, 4096);
    driver.offer(0, &[room(&guest, 8)]);
    assert_eq!(clock.wait_for_timer(DEADLINE), PAUSE);
    assert_eq!(driver.used(0), None);
}

#[test]
fn a_source_that_rests_is_not_asked_whatever_the_guest_does() {
    let (guest, clock, pieces) = (Guest::new(), VirtualClock::default(), Pieces::default());
    let slot = guest.plug(Box::new(Rng::new(pieces.clone()).with_clock(clock.clone())));
    let room = room(&guest, 8);
    for _ in 0..20 {
        let mut driver = driver(&slot);
        driver.offer(0, &[room]);
        assert_eq!(clock.wait_for_timer(DEADLINE), PAUSE);
        (0..20).for_each(|_| driver.kick(0));
    }
    drop(slot.unplug());
    assert_eq!(pieces.asked(), 1);
}

#[test]
fn a_limit_lets_a_burst_pass_and_then_so_much_a_second() {
    let (guest, clock) = (Guest::new(), VirtualClock::default());
    let rng = Rng::limited(plenty(), limit(10, 20));
    let slot = guest.plug(Box::new(rng.with_clock(clock.clone())));
    let mut driver = driver(&slot);
    let room = room(&guest, 8);
    let heads = [(); 5].map(|()| u32::from(driver.offer(0, &[room])));
    for head in &heads[..2] {
        assert_eq!(driver.wait_used(0, DEADLINE), Used { head: *head, written: 8 });
    }
    for (head, due) in heads[2..].iter().zip([400, 1200, 2000].map(Duration::from_millis)) {
        assert_eq!(clock.wait_for_timer(DEADLINE), due);
        assert_eq!(driver.used(0), None);
        clock.advance(due - clock.now());
        assert_eq!(driver.wait_used(0, DEADLINE), Used { head: *head, written: 8 });
    }
}

#[test]
fn an_hour_of_a_greedy_guest_brings_it_what_the_limit_allows() {
    let (guest, clock) = (Guest::new(), VirtualClock::default());
    let (hour, limit) = (Duration::from_secs(3600), limit(50, 512));
    let slot = guest.plug(Box::new(Rng::limited(plenty(), limit).with_clock(clock.clone())));
    let mut driver = driver(&slot);
    let room = room(&guest, 64);
    (0..16).for_each(|_| _ = driver.offer(0, &[room]));
    let mut bytes = 0;
    loop {
        let due = clock.wait_for_timer(DEADLINE);
        while let Some(used) = driver.used(0) {
            bytes += u64::from(used.written);
            driver.offer(0, &[room]);
        }
        if due > hour {
            break;
        }
        clock.advance(due.saturating_sub(clock.now()));
    }
    drop(slot.unplug());
    bytes += std::iter::from_fn(|| driver.used(0)).map(|used| u64::from(used.written)).sum::<u64>();
    let most = 512 + 50 * 3600;
    assert!((most - 64..=most).contains(&bytes), "{bytes} bytes of {most}");
}

#[test]
fn a_buffer_larger_than_a_burst_gets_a_burst() {
    let (guest, clock) = (Guest::new(), VirtualClock::default());
    let slot =
        guest.plug(Box::new(Rng::limited(plenty(), limit(10, 20)).with_clock(clock.clone())));
    let mut driver = driver(&slot);
    let room = room(&guest, 1000);
    for seconds in [0, 2, 4] {
        driver.offer(0, &[room]);
        if seconds > 0 {
            assert_eq!(clock.wait_for_timer(DEADLINE), Duration::from_secs(seconds));
            clock.advance(Duration::from_secs(2));
        }
        assert_eq!(driver.wait_used(0, DEADLINE).written, 20);
    }
}

#[test]
fn a_driver_that_starts_anew_gets_no_other_burst() {
    let (guest, clock) = (Guest::new(), VirtualClock::default());
    let slot =
        guest.plug(Box::new(Rng::limited(plenty(), limit(10, 20)).with_clock(clock.clone())));
    let room = room(&guest, 20);
    let mut first = driver(&slot);
    first.offer(0, &[room]);
    assert_eq!(first.wait_used(0, DEADLINE).written, 20);
    for _ in 0..20 {
        let mut other = driver(&slot);
        other.offer(0, &[room]);
        assert_eq!(clock.wait_for_timer(DEADLINE), Duration::from_secs(2));
        assert_eq!(other.used(0), None);
    }
}

/// Queue 0 as a machine keeps it while its device is stopped.
struct Kept {
    guest: Guest,
    params: QueueParams,
    driver: DriverQueue,
    kick: EventFd,
}

impl Kept {
    fn new(guest: Guest) -> Self {
        let (params, _) = QueueParams::contiguous(RAM_BASE, 16, Features::VERSION_1);
        let driver = DriverQueue::new(guest.memory().clone(), params, Features::VERSION_1);
        let kick = EventFd::new(EFD_NONBLOCK).unwrap();
        Self { guest, params, driver: driver.unwrap(), kick }
    }

    fn start(&self, device: &mut dyn VirtioDevice, state: QueueState) {
        let queue = QueueResources {
            index: 0,
            params: self.params,
            state,
            features: Features::VERSION_1,
            kick: self.kick.try_clone().unwrap(),
            interrupt: Interrupt::silent(),
            fault: OnFault::unheard(),
            memory: self.guest.memory().clone(),
        };
        device.start(Features::VERSION_1, Queues::new(vec![queue])).unwrap();
    }
}

#[test]
fn a_device_that_is_stopped_while_buffers_wait_goes_on_with_them() {
    let (guest, clock) = (Guest::new(), VirtualClock::default());
    let room = guest.buffer(20);
    let mut rng = Rng::limited(plenty(), limit(10, 20)).with_clock(clock.clone());
    let mut kept = Kept::new(guest);
    let heads = [(); 4].map(|()| kept.driver.add(&[Buffer::writable(room.0, 20)]).unwrap());
    kept.driver.publish();
    let mut state = QueueState::default();
    for (n, head) in (1..4).zip(heads) {
        // Stopped and started again and again, while all but the first ones wait.
        for _ in 0..5 {
            kept.start(&mut rng, state);
            assert_eq!(clock.wait_for_timer(DEADLINE), Duration::from_secs(2 * n));
            state = rng.stop().remove(0);
            assert_eq!(state, QueueState { next_avail: n as u16, next_used: n as u16 });
            assert_eq!(clock.next_timer(), None, "the timer is gone with the worker");
        }
        let used = kept.driver.pop_used().map(|used| (used.token, used.written));
        assert_eq!(used, Some((head, 20)));
        assert!(kept.driver.pop_used().is_none());
        clock.advance(Duration::from_secs(2));
    }
}
