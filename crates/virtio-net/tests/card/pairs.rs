//! A card with several pairs of queues, each with an end and a thread of its own.

use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, Slot, within};
use cubie_virtio_core::{Features, VirtioDevice};
use cubie_virtio_net::{Counters, Loopback, Mac, Net};
use virtio_bindings::virtio_net::*;

use crate::driver::*;

const MQ: Features = Features::bit(VIRTIO_NET_F_MQ);
const PAIRS: usize = 3;

const fn receive(pair: usize) -> usize {
    2 * pair
}

const fn transmit(pair: usize) -> usize {
    2 * pair + 1
}

/// All features that come with commands.
fn every_command() -> Features {
    let features = [
        VIRTIO_NET_F_CTRL_RX,
        VIRTIO_NET_F_CTRL_RX_EXTRA,
        VIRTIO_NET_F_CTRL_VLAN,
        VIRTIO_NET_F_CTRL_MAC_ADDR,
        VIRTIO_NET_F_GUEST_ANNOUNCE,
    ];
    features.into_iter().fold(MQ, |all, feature| all.with(Features::bit(feature)))
}

struct Bench {
    guest: Guest,
    slot: Slot,
    ends: Vec<Loopback>,
    counters: Counters,
}

/// A card with ends of its own.
fn card() -> (Net<Loopback>, Vec<Loopback>) {
    let (cables, ends): (Vec<_>, Vec<_>) = (0..PAIRS).map(|_| Loopback::pair().unwrap()).unzip();
    (Net::with_pairs(cables, Mac::made_from("test")).unwrap(), ends)
}

impl Bench {
    fn new() -> Self {
        let (net, ends) = card();
        let counters = net.counters();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        Self { guest, slot, ends, counters }
    }

    fn drive(&self, features: Features) -> Driver {
        Driver::new(&self.guest, &self.slot, features, PAIRS)
    }
}

impl Driver {
    #[track_caller]
    fn use_pairs(&mut self, pairs: u16) -> u8 {
        self.command(4, 0, &pairs.to_le_bytes())
    }
}

/// Both directions of a pair.
#[track_caller]
fn passes(driver: &mut Driver, end: &Loopback, pair: usize) {
    let letter = b'a' + pair as u8;
    driver.send(transmit(pair), &[letter; 20]);
    assert_eq!(end.wait_frame(DEADLINE), Some(vec![letter; 20]));
    let room = driver.room(receive(pair), 64);
    assert!(end.send_frame(&[letter; 30]));
    assert_eq!(driver.frame(receive(pair), room), [letter; 30]);
}

#[test]
fn a_card_has_at_least_one_pair_and_tells_how_many() {
    let none = Net::<Loopback>::with_pairs(vec![], Mac::made_from("test"));
    let error = none.err().unwrap().to_string();
    assert!(error.contains("1 to 256 pairs of queues, not 0"), "{error}");
    let ends = (0..PAIRS).map(|_| Loopback::new().unwrap()).collect();
    let net = Net::with_pairs(ends, Mac::made_from("test")).unwrap();
    assert!(net.features().has(MQ));
    assert_eq!(net.queue_sizes().len(), 2 * PAIRS + 1);
    let mut pairs = [0; 2];
    net.config().read(8, &mut pairs);
    assert_eq!(usize::from(u16::from_le_bytes(pairs)), PAIRS);
}

#[test]
fn each_pair_that_the_driver_uses_has_a_road_of_its_own() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(MQ);
        passes(&mut driver, &bench.ends[0], 0);
        assert_eq!(driver.use_pairs(PAIRS as u16), OK);
        for (pair, end) in bench.ends.iter().enumerate() {
            passes(&mut driver, end, pair);
        }
        assert_eq!(
            (bench.counters.transmit().drops.total(), bench.counters.receive().drops.total()),
            (0, 0)
        );
    });
}

#[test]
fn a_pair_that_the_driver_does_not_use_receives_nothing_and_sends_nothing() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(MQ);
        let room = driver.room(receive(1), 64);
        for used in [3, 1] {
            assert_eq!(driver.use_pairs(used), OK);
            if used == 3 {
                assert!(bench.ends[1].send_frame(&[3; 20]));
                assert_eq!(driver.frame(receive(1), room), [3; 20]);
                driver.room(receive(1), 64);
            }
        }
        assert!(bench.ends[1].send_frame(&[1; 20]));
        driver.send(transmit(1), &[1; 20]);
        assert_eq!(
            bench.counters.transmit().drops.total(),
            1,
            "its buffer comes back, and that is all"
        );
        assert_eq!(bench.ends[1].wait_frame(Duration::ZERO), None);
        // The pair's worker has had its turn.
        assert_eq!(driver.use_pairs(1), OK);
        assert_eq!(driver.raw.used(receive(1)), None);
        assert_eq!(driver.use_pairs(2), OK);
        assert_eq!(driver.raw.wait_used(receive(1), DEADLINE).written, 32, "it was kept");
    });
}

#[test]
fn what_is_no_command_is_refused_and_changes_nothing() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(MQ);
        assert_eq!(driver.use_pairs(2), OK);
        for pairs in [0, PAIRS as u16 + 1, 0x8001, u16::MAX] {
            assert_eq!(driver.use_pairs(pairs), ERR, "{pairs} pairs");
        }
        for (class, command, data) in [
            (4, 0, &[1][..]),
            (4, 0, &[1, 0, 0]),
            (4, 9, &[1, 0]),
            (77, 0, &[]),
            (4, 0, &[0; 9000]),
        ] {
            assert_eq!(driver.command(class, command, data), ERR, "{class} {command}");
        }
        // No room for an answer, and no command at all.
        let buffer = driver.guest.buffer(4).0;
        for chain in [[Descriptor::readable(buffer, 4)], [Descriptor::writable(buffer, 1)]] {
            driver.raw.offer(driver.control, &chain);
            let written = driver.raw.wait_used(driver.control, DEADLINE).written;
            assert_eq!(written, u32::from(chain[0].writable));
        }
        passes(&mut driver, &bench.ends[1], 1);
    });
}

#[test]
fn a_driver_without_several_pairs_finds_the_control_queue_behind_the_first() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = Driver::new(&bench.guest, &bench.slot, Features::default(), 1);
        assert_eq!(driver.control, 2);
        assert_eq!(driver.use_pairs(1), ERR, "the command was not negotiated");
        passes(&mut driver, &bench.ends[0], 0);
    });
}

#[test]
fn a_pair_with_a_queue_in_reset_is_a_pair() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(MQ.with(Features::RING_RESET));
        driver.raw.reset_queue(transmit(2));
        assert_eq!(driver.use_pairs(3), OK);
        passes(&mut driver, &bench.ends[1], 1);
    });
}

#[test]
fn the_reset_of_one_queue_keeps_the_pairs_and_that_of_the_card_does_not() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(MQ.with(Features::RING_RESET));
        assert_eq!(driver.use_pairs(2), OK);
        driver.raw.reset_queue(receive(0));
        passes(&mut driver, &bench.ends[1], 1);
        driver.raw.renew_queue(receive(0), 8);
        passes(&mut driver, &bench.ends[0], 0);
        passes(&mut driver, &bench.ends[1], 1);

        let mut driver = bench.drive(MQ);
        driver.send(transmit(1), &[1; 20]);
        assert_eq!(bench.counters.transmit().drops.total(), 1, "the second driver uses one pair");
        passes(&mut driver, &bench.ends[0], 0);
    });
}

#[test]
fn a_snapshot_knows_the_pairs_that_the_driver_uses() {
    within(DEADLINE, || {
        let mut bench = Bench::new();
        let mut driver = bench.drive(MQ);
        assert_eq!(driver.use_pairs(2), OK);
        for (pair, end) in bench.ends.iter().enumerate().take(2) {
            passes(&mut driver, end, pair);
        }
        let state = bench.slot.save();
        let (net, ends) = card();
        bench.slot.restore(Box::new(net), &state).unwrap();
        bench.slot.resume().unwrap();
        for (pair, end) in ends.iter().enumerate().take(2) {
            passes(&mut driver, end, pair);
        }
        driver.send(transmit(2), &[b'c'; 20]);
        assert!(ends[2].wait_frame(Duration::ZERO).is_none(), "the third is not in use");
    });
}

#[test]
fn commands_of_garbage_are_answered_one_by_one() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(every_command());
        let mut random = 1u64;
        let mut next = |below: u64| {
            // A step of a generator that anybody can repeat (Knuth's MMIX).
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut answers = [0, 0];
        for _ in 0..2000 {
            let (class, command) = (next(6) as u8, next(6) as u8);
            let data: Vec<_> = (0..next(12) / 3).map(|_| next(3) as u8).collect();
            answers[usize::from(driver.command(class, command, &data))] += 1;
        }
        assert!(answers.iter().all(|count| *count > 50), "{answers:?}");
        assert_eq!(driver.use_pairs(2), OK);
        driver.send(transmit(1), &[1; 20]);
        assert_eq!(bench.ends[1].wait_frame(DEADLINE), Some(vec![1; 20]));
    });
}
