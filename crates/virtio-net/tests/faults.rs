//! Cards whose host fails, in each way that it may.

use std::time::{Duration, Instant};

use cubie_testkit::{
    Descriptor, Errno, Fault, Faults, Faulty, Guest, Injected, RawDriver, Slot, within,
};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Counters, Link, Loopback, Mac, Net, NetHeader};
use vm_memory::{Bytes, GuestAddress};

const DEADLINE: Duration = Duration::from_secs(20);
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const HEADER: u64 = NetHeader::LEN as u64;
/// Bytes of a frame, the first four of which are its number.
const FRAME: usize = 60;
const LEN: u32 = NetHeader::LEN as u32 + FRAME as u32;
/// Frames in each direction at once: fewer than fit into the cable.
const BATCH: u32 = 100;

const AGAIN: Fault = Fault::Error(Errno::AGAIN);
const ALL: [Fault; 5] =
    [AGAIN, Fault::Error(Errno::IO), Fault::Error(Errno::NOBUFS), Fault::Short, Fault::Late(3)];

fn frame(number: u32) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..4].copy_from_slice(&number.to_le_bytes());
    frame
}

fn number(frame: &[u8]) -> u32 {
    u32::from_le_bytes(frame[..4].try_into().unwrap())
}

/// Does this call, once it has failed so, cost a frame?
fn loses(injected: &Injected) -> bool {
    let again = matches!(injected.fault, AGAIN | Fault::Late(_));
    match injected.operation {
        "send" => !again,
        _ => injected.fault == Fault::Short,
    }
}

struct Bench {
    guest: Guest,
    slot: Slot,
    far_end: Loopback,
    faults: Faults,
    counters: Counters,
    link: Link,
    driver: RawDriver,
    buffers: [u64; 2],
    kicks: u64,
}

impl Bench {
    fn new(faults: Faults) -> Self {
        let (cable, far_end) = Loopback::pair().unwrap();
        let net = Net::new(Faulty::new(cable, &faults), Mac::made_from("faulty"));
        let (guest, counters, link) = (Guest::new(), net.counters(), net.link());
        let slot = guest.plug(Box::new(net));
        let driver = drive(&slot);
        let buffers = [(); 2].map(|()| guest.buffer((BATCH * LEN) as usize).0);
        Self { guest, slot, far_end, faults, counters, link, driver, buffers, kicks: 0 }
    }

    /// Offers a frame of each of these numbers. The card is kicked with the last.
    fn send(&mut self, numbers: impl IntoIterator<Item = u32>) {
        for (n, at) in numbers.into_iter().zip((self.buffers[TRANSMIT]..).step_by(LEN as usize)) {
            let memory = self.guest.memory();
            memory.write_slice(&frame(n), GuestAddress(at + HEADER)).unwrap();
            self.driver.add(TRANSMIT, &[Descriptor::readable(at, LEN)]);
        }
        self.kick(TRANSMIT);
    }

    /// Offers buffers for so many frames.
    fn make_room(&mut self, frames: u32) {
        for at in (self.buffers[RECEIVE]..).step_by(LEN as usize).take(frames as usize) {
            self.driver.add(RECEIVE, &[Descriptor::writable(at, LEN)]);
        }
        self.kick(RECEIVE);
    }

    fn kick(&mut self, queue: usize) {
        self.kicks += 1;
        self.driver.kick(queue);
    }

    /// Waits until all frames that were offered have come back, each once.
    fn wait_sent(&mut self, frames: u32) {
        (0..frames).for_each(|_| assert_eq!(self.driver.wait_used(TRANSMIT, DEADLINE).written, 0));
        assert_eq!(self.driver.used(TRANSMIT), None);
    }

    /// Frames that the host has refused, and those of it that were cut.
    fn drops(&self) -> [u64; 2] {
        let (sent, received) = (self.counters.transmit().drops, self.counters.receive().drops);
        assert_eq!((sent.total(), received.total()), (sent.refused, received.length));
        [sent.refused, received.length]
    }

    /// Takes frames that came to the guest until so many have come or were dropped since `dropped`. Their
    /// numbers, in the order of their buffers.
    fn wait_received(&mut self, frames: u32, dropped: u64) -> Vec<u32> {
        let (mut numbers, end) = (vec![], Instant::now() + DEADLINE);
        while numbers.len() as u64 + self.drops()[1] - dropped < frames.into() {
            assert!(Instant::now() < end, "{} of {frames}: {:?}", numbers.len(), self.faults);
            let Some(used) = self.driver.used(RECEIVE) else {
                std::thread::yield_now();
                continue;
            };
            assert_eq!(used.written, LEN);
            let at = self.buffers[RECEIVE] + u64::from(LEN) * numbers.len() as u64 + HEADER;
            let mut frame = [0; FRAME];
            self.guest.memory().read_slice(&mut frame, GuestAddress(at)).unwrap();
            numbers.push(number(&frame));
        }
        numbers
    }

    /// What has come to the host so far.
    fn at_the_host(&self) -> Vec<u32> {
        let frames = std::iter::from_fn(|| self.far_end.wait_frame(Duration::ZERO));
        frames.map(|frame| number(&frame)).collect()
    }

    /// A new driver sends and receives without loss.
    fn check(&mut self) {
        self.driver = drive(&self.slot);
        let before = self.drops();
        self.at_the_host();
        self.send(0..BATCH);
        self.make_room(BATCH);
        (0..BATCH).for_each(|n| assert!(self.far_end.send_frame(&frame(n))));
        self.wait_sent(BATCH);
        let received = self.wait_received(BATCH, before[1]);
        assert!(received.iter().copied().eq(0..BATCH), "{received:?}");
        assert!(self.at_the_host().into_iter().eq(0..BATCH));
        assert_eq!(self.drops(), before);
    }
}

fn drive(slot: &Slot) -> RawDriver {
    RawDriver::new(slot, Features::default(), &[128, 128])
}

#[test]
fn a_storm_of_again_loses_no_frame_in_either_direction() {
    for fault in [AGAIN, Fault::Late(1)] {
        within(DEADLINE, move || {
            let mut bench = Bench::new(Faults::storm(fault, 500));
            (0..BATCH).for_each(|n| assert!(bench.far_end.send_frame(&frame(n))));
            bench.send(0..BATCH);
            bench.make_room(BATCH);
            bench.wait_sent(BATCH);
            assert!(bench.wait_received(BATCH, 0).into_iter().eq(0..BATCH));
            assert!(bench.at_the_host().into_iter().eq(0..BATCH));
            assert_eq!(bench.drops(), [0, 0]);
            assert_eq!(bench.faults.injected().len(), 500);
        });
    }
}

#[test]
fn frames_that_the_host_refuses_are_dropped_and_counted_and_the_others_pass_in_order() {
    for fault in [Fault::Error(Errno::IO), Fault::Error(Errno::NOSPC), Fault::Short] {
        within(DEADLINE, move || {
            let entries = (0..BATCH).map(move |n| (n % 3 != 0).then_some(fault));
            let mut bench = Bench::new(Faults::script(entries));
            bench.send(0..BATCH);
            bench.wait_sent(BATCH);
            let lost = u64::from(BATCH) * 2 / 3;
            assert_eq!(bench.drops()[0], lost, "{:?}", bench.faults);
            assert!(bench.at_the_host().into_iter().eq((0..BATCH).filter(|n| n % 3 == 0)));
            bench.check();
        });
    }
}

#[test]
fn storms_of_all_faults_answer_each_frame_once_and_cost_a_bounded_number_of_calls() {
    const ROUNDS: u32 = 20;
    for seed in 0..8 {
        within(DEADLINE, move || {
            let mut bench = Bench::new(Faults::seeded(seed, 3, &ALL));
            for _ in 0..ROUNDS {
                let dropped = bench.drops()[1];
                bench.driver = drive(&bench.slot);
                (0..BATCH).for_each(|n| assert!(bench.far_end.send_frame(&frame(n))));
                bench.send(0..BATCH);
                bench.make_room(BATCH);
                bench.wait_sent(BATCH);
                for numbers in [bench.wait_received(BATCH, dropped), bench.at_the_host()] {
                    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
                }
            }
            let injected = bench.faults.injected();
            let lost = |operation| {
                let those = injected.iter().filter(|injected| injected.operation == operation);
                those.filter(|injected| loses(injected)).count() as u64
            };
            assert_eq!(bench.drops()[0], lost("send"), "{:?}", bench.faults);
            assert!(bench.drops()[1] <= lost("recv"), "{:?}", bench.faults);
            // Each frame is asked for once. Each fault wakes the card, and so does what the far end does;
            // each time it looks in both directions, at most.
            let frames = u64::from(2 * BATCH * ROUNDS);
            let wakes = injected.len() as u64 + bench.kicks + frames + 3 * u64::from(ROUNDS);
            let most = frames + 2 * wakes;
            assert!(bench.faults.calls() <= most, "{} of {most}", bench.faults.calls());
            bench.faults.off();
            bench.check();
        });
    }
}

#[test]
fn a_host_that_dies_drops_the_guests_frames_keeps_its_own_and_comes_back() {
    within(DEADLINE, || {
        let alive = (0..20).map(|_| None);
        let mut bench = Bench::new(Faults::script(alive.chain([Some(Fault::Death)])));
        bench.send(0..BATCH);
        bench.wait_sent(BATCH);
        assert_eq!(bench.drops()[0], u64::from(BATCH - 20));
        let calls = bench.faults.calls();
        (0..BATCH).for_each(|n| assert!(bench.far_end.send_frame(&frame(n))));
        bench.make_room(BATCH);
        while bench.faults.calls() == calls {
            std::thread::yield_now();
        }
        assert_eq!(bench.driver.used(RECEIVE), None);
        bench.faults.off();
        assert!(bench.wait_received(BATCH, 0).into_iter().eq(0..BATCH));
        bench.check();
    });
}

#[test]
fn a_host_end_that_is_gone_takes_the_link_down_for_good() {
    const GONE: Option<Fault> = Some(Fault::Error(Errno::NOENT));
    for to_guest in [true, false] {
        within(DEADLINE, move || {
            let mut bench = Bench::new(Faults::script([GONE]));
            if to_guest {
                assert!(bench.far_end.send_frame(&frame(0)));
                bench.make_room(1);
                while bench.link.is_up() {
                    std::thread::yield_now();
                }
            }
            for dropped in [1, 2] {
                bench.send(0..BATCH);
                bench.wait_sent(BATCH);
                let drops = bench.counters.transmit().drops;
                assert_eq!(drops.link_down, dropped * u64::from(BATCH));
                bench.link.set_up(true);
                assert!(!bench.link.is_up(), "there is nothing to plug it into");
                bench.driver = drive(&bench.slot);
            }
            assert!(bench.at_the_host().is_empty());
        });
    }
}

/// What the driver reads of the link.
fn reads_up(slot: &Slot) -> bool {
    let mut status = [0; 2];
    slot.config().read(6, &mut status);
    status == [1, 0]
}

#[test]
fn a_link_that_was_lost_is_up_again_after_a_restore_elsewhere_if_nobody_has_set_it_down() {
    const GONE: Option<Fault> = Some(Fault::Error(Errno::NOENT));
    for wanted in [true, false] {
        within(DEADLINE, move || {
            let mut bench = Bench::new(Faults::script([GONE]));
            bench.send(0..1);
            bench.wait_sent(1);
            bench.link.set_up(wanted);
            assert!(!bench.link.is_up() && !reads_up(&bench.slot));
            let state = bench.slot.save();
            let (cable, _far_end) = Loopback::pair().unwrap();
            let net = Net::new(Faulty::new(cable, &Faults::none()), Mac::made_from("faulty"));
            let link = net.link();
            bench.slot.restore(Box::new(net), &state).unwrap();
            bench.slot.resume().unwrap();
            assert_eq!((link.is_up(), reads_up(&bench.slot)), (wanted, wanted));
        });
    }
}

cubie_testkit::conformance!(|| {
    let cable = Faulty::new(Loopback::new().unwrap(), &Faults::seeded(0, 2, &ALL));
    Box::new(Net::new(cable, Mac::made_from("faulty")))
});
