//! What the driver wants to receive, and what it does not.

use cubie_testkit::{Guest, Slot, within};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Counters, Loopback, Mac, Net};
use virtio_bindings::virtio_net::*;

use crate::driver::*;

const RECEIVE: usize = 0;
const ALL: [u8; 6] = [0xff; 6];
const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// Frames to this address, which is in each table, end a round.
const MARK: [u8; 6] = [2, 0, 0, 0, 0, 0xee];

fn features(of: &[u32]) -> Features {
    of.iter().fold(Features::default(), |all, bit| all.with(Features::bit(*bit)))
}

fn every() -> Features {
    features(&[
        VIRTIO_NET_F_CTRL_RX,
        VIRTIO_NET_F_CTRL_RX_EXTRA,
        VIRTIO_NET_F_CTRL_VLAN,
        VIRTIO_NET_F_CTRL_MAC_ADDR,
    ])
}

fn ours() -> [u8; 6] {
    Mac::made_from("test").bytes()
}

struct Bench {
    guest: Guest,
    slot: Slot,
    end: Loopback,
    counters: Counters,
}

impl Bench {
    fn new() -> Self {
        let (cable, end) = Loopback::pair().unwrap();
        let net = Net::new(cable, Mac::made_from("test"));
        let counters = net.counters();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        Self { guest, slot, end, counters }
    }

    fn drive(&self, features: Features) -> Driver {
        Driver::new(&self.guest, &self.slot, features, 1)
    }

    /// Which of these frames reach the driver; the last one must.
    #[track_caller]
    fn arrive(&self, driver: &mut Driver, frames: &[Vec<u8>]) -> Vec<bool> {
        let rooms: Vec<_> = frames.iter().map(|_| driver.room(RECEIVE, 64)).collect();
        frames.iter().for_each(|frame| assert!(self.end.send_frame(frame)));
        let (mut rooms, mut arrived) = (rooms.into_iter(), vec![false; frames.len()]);
        while arrived.last() == Some(&false) {
            let seen = driver.frame(RECEIVE, rooms.next().unwrap());
            let which = frames.iter().position(|frame| *frame == seen);
            arrived[which.expect("a frame that was sent")] = true;
        }
        // Those buffers that are left are taken back.
        driver.raw.reset_queue(RECEIVE);
        driver.raw.renew_queue(RECEIVE, 16);
        arrived
    }

    /// Whether frames to the card, to another one, to a group and to all reach the driver.
    #[track_caller]
    fn reach(&self, driver: &mut Driver) -> [bool; 4] {
        let mut frames: Vec<_> = [ours(), OTHER, GROUP, ALL].map(|to| frame(to, None)).into();
        frames.push(frame(MARK, None));
        self.arrive(driver, &frames)[..4].try_into().unwrap()
    }
}

/// A frame to this card, of this VLAN.
fn frame(to: [u8; 6], vlan: Option<u16>) -> Vec<u8> {
    let tag = vlan.map(|id| [[0x81, 0], id.to_be_bytes()].concat()).unwrap_or_default();
    [&to[..], &[2, 0, 0, 0, 0, 1], &tag, &[0x88, 0xb5], &[0; 16]].concat()
}

impl Driver {
    #[track_caller]
    fn mode(&mut self, command: u8, on: bool) {
        assert_eq!(self.command(0, command, &[u8::from(on)]), OK, "mode {command}");
    }

    #[track_caller]
    fn table(&mut self, cards: &[[u8; 6]], groups: &[[u8; 6]]) -> u8 {
        let count = |table: &[[u8; 6]]| (table.len() as u32).to_le_bytes();
        let [first, second] = [count(cards), count(groups)];
        let bytes = [&first[..], cards.as_flattened(), &second, groups.as_flattened()];
        self.command(1, 0, &bytes.concat())
    }
}

#[test]
fn a_driver_hears_what_it_asks_for_and_no_more() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(every().with(Features::RING_RESET));
        assert_eq!(driver.table(&[MARK], &[]), OK);
        assert_eq!(bench.reach(&mut driver), [true, false, false, true]);
        assert_eq!(bench.counters.receive().drops.filtered, 2);
        for (command, expected) in [
            (0, [true; 4]),
            (1, [true, false, true, true]),
            (2, [true, true, false, true]),
            (5, [true, false, false, false]),
        ] {
            driver.mode(command, true);
            assert_eq!(bench.reach(&mut driver), expected, "mode {command}");
            driver.mode(command, false);
        }
        assert_eq!(driver.table(&[OTHER, MARK], &[GROUP]), OK);
        assert_eq!(bench.reach(&mut driver), [true; 4]);
        driver.mode(3, true);
        assert_eq!(bench.reach(&mut driver), [true, true, false, true]);
        driver.mode(4, true);
        driver.mode(0, true);
        assert_eq!(bench.reach(&mut driver), [true; 4], "promiscuous above all");
    });
}

#[test]
fn what_was_not_negotiated_is_neither_obeyed_nor_filtered() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(Features::RING_RESET);
        assert_eq!(bench.reach(&mut driver), [true; 4]);
        for (class, command, data) in
            [(0, 0, &[1][..]), (1, 0, &[0; 8]), (1, 1, &OTHER), (2, 0, &[1, 0]), (3, 0, &[])]
        {
            assert_eq!(driver.command(class, command, data), ERR);
        }
        let mut driver = bench.drive(features(&[VIRTIO_NET_F_CTRL_RX]));
        for command in 2..6 {
            assert_eq!(driver.command(0, command, &[0]), ERR, "an extra mode");
        }
    });
}

#[test]
fn a_table_may_be_long_and_not_wrong() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(every().with(Features::RING_RESET));
        let many: Vec<_> = (0..1000u16).map(|n| [2, 0, 0, 0, (n >> 8) as u8, n as u8]).collect();
        assert_eq!(driver.table(&many, &[GROUP]), OK);
        assert_eq!(bench.reach(&mut driver), [true; 4]);
        // Longer than any command may be: what was asked for before holds.
        assert_eq!(driver.table(&[OTHER; 1400], &[]), ERR);
        let lies = [&[200, 0, 0, 0][..], &OTHER, &[0; 4]].concat();
        assert_eq!(driver.command(1, 0, &lies), ERR);
        assert_eq!(bench.reach(&mut driver), [true; 4]);
    });
}

#[test]
fn the_card_has_the_address_that_the_driver_gives_it_until_the_reset() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let shown = || {
            let mut mac = [0; 6];
            bench.slot.config().read(0, &mut mac);
            mac
        };
        let mut driver = bench.drive(every().with(Features::RING_RESET));
        assert_eq!(driver.table(&[MARK], &[]), OK);
        assert_eq!(driver.command(1, 1, &GROUP), ERR);
        assert_eq!(shown(), ours());
        assert_eq!(driver.command(1, 1, &OTHER), OK);
        assert_eq!(shown(), OTHER);
        // Queues are reset in between.
        assert_eq!(bench.reach(&mut driver), [false, true, false, true]);
        assert_eq!(bench.reach(&mut driver), [false, true, false, true]);
        assert_eq!(shown(), OTHER);
        driver.raw.transport().write(virtio_bindings::virtio_mmio::VIRTIO_MMIO_STATUS, 0);
        assert_eq!(shown(), ours(), "as the next driver finds it");
        let mut driver = bench.drive(every().with(Features::RING_RESET));
        assert_eq!(driver.table(&[MARK], &[]), OK, "the table was empty");
        assert_eq!(bench.reach(&mut driver), [true, false, false, true]);
    });
}

#[test]
fn frames_of_a_vlan_arrive_when_the_driver_wants_it() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let features = features(&[VIRTIO_NET_F_CTRL_VLAN]).with(Features::RING_RESET);
        let mut driver = bench.drive(features);
        let frames = [Some(7), Some(4095), None].map(|vlan| frame(OTHER, vlan));
        assert_eq!(bench.arrive(&mut driver, &frames), [false, false, true]);
        assert_eq!(driver.command(2, 0, &[7, 0]), OK);
        assert_eq!(bench.arrive(&mut driver, &frames), [true, false, true]);
        assert_eq!(driver.command(2, 0, &[0xff, 0xf]), OK);
        assert_eq!(driver.command(2, 1, &[7, 0]), OK);
        assert_eq!(bench.arrive(&mut driver, &frames), [false, true, true]);
        assert_eq!(driver.command(2, 0, &[0, 0x10]), ERR, "there is no such VLAN");
    });
}

#[test]
fn a_filter_looks_at_frames_that_lie_in_several_buffers() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(every().with(features(&[VIRTIO_NET_F_MRG_RXBUF])));
        assert!(bench.end.send_frame(&frame(OTHER, None)));
        assert!(bench.end.send_frame(&frame(ours(), None)));
        // The address is in both, and the rest has no buffer yet.
        let first = driver.room(RECEIVE, 16);
        while bench.counters.receive().drops.filtered == 0 {
            std::thread::yield_now();
        }
        driver.room(RECEIVE, 16);
        driver.room(RECEIVE, 64);
        let written = [(); 3].map(|()| driver.raw.wait_used(RECEIVE, DEADLINE).written);
        assert_eq!(written, [16, 16, 10]);
        let mut bytes = [0; 16];
        vm_memory::Bytes::read_slice(&**bench.guest.memory(), &mut bytes, first).unwrap();
        assert_eq!(bytes[10..], [3, 0, ours()[0], ours()[1], ours()[2], ours()[3]]);
    });
}
