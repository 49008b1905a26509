//! Received frames that are spread over several buffers.

use std::os::unix::net::UnixDatagram;

use cubie_testkit::{Guest, Slot, within};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Counters, Mac, Net, NetHeader};
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use vm_memory::{Bytes, GuestAddress};

use crate::driver::*;
use crate::packets::Packets;

const MRG_RXBUF: Features = Features::bit(VIRTIO_NET_F_MRG_RXBUF);
const RECEIVE: usize = 0;
/// The longest frame that there is (VIRTIO 1.4 §5.1.6.3.1).
const LONGEST: usize = 65_550;

struct Bench {
    guest: Guest,
    slot: Slot,
    host: UnixDatagram,
    counters: Counters,
}

impl Bench {
    fn new() -> Self {
        let (packets, host) = Packets::new(Features::default(), Features::default());
        let net = Net::new(packets, Mac::made_from("test"));
        let counters = net.counters();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        Self { guest, slot, host, counters }
    }

    fn drive(&self, features: Features) -> Driver {
        Driver::new(&self.guest, &self.slot, features, 1)
    }

    /// Sends a frame of so many bytes, all different from those of another length.
    fn send(&self, len: usize) -> Vec<u8> {
        let frame: Vec<_> = (0..len).map(|n| (n * 7 + n / 256 + len) as u8).collect();
        let packet = [&[0; NetHeader::LEN][..], &frame].concat();
        assert_eq!(self.host.send(&packet).unwrap(), packet.len());
        frame
    }
}

impl Driver {
    /// The next frame, which lies in the next ones of these buffers, each of so many bytes. Each is full, but
    /// for the last.
    #[track_caller]
    fn merged(&mut self, buffers: &mut impl Iterator<Item = (GuestAddress, usize)>) -> Vec<u8> {
        let mut bytes = vec![];
        let (mut left, mut full) = (1, true);
        while left > 0 {
            let written = self.raw.wait_used(RECEIVE, DEADLINE).written as usize;
            let (buffer, len) = buffers.next().unwrap();
            assert!(full, "a buffer before the last is not full");
            full = written == len;
            let mut piece = vec![0; written];
            self.guest.memory().read_slice(&mut piece, buffer).unwrap();
            if bytes.is_empty() {
                left = u16::from_le_bytes([piece[10], piece[11]]);
            }
            bytes.extend(piece);
            left -= 1;
        }
        bytes.split_off(HEADER)
    }
}

#[test]
fn a_frame_takes_as_many_buffers_as_it_needs_and_its_header_says_how_many() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(MRG_RXBUF);
        let lens = [100, 50, 50, 12, 300, 60, 60, 60, 60, 60, 60, 60, 60];
        let buffers: Vec<_> = lens.map(|len| (driver.room(RECEIVE, len), len)).into();
        let mut buffers = buffers.into_iter();
        for len in [88, 88, 14, 300, 100] {
            let frame = bench.send(len);
            assert_eq!(driver.merged(&mut buffers), frame, "{len} bytes");
        }
        assert_eq!(bench.counters.receive().frames, 5);
        assert_eq!(bench.counters.receive().drops.total(), 0);
    });
}

#[test]
fn a_frame_that_needs_more_buffers_waits_for_them() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(MRG_RXBUF);
        let mut buffers = vec![(driver.room(RECEIVE, 64), 64)];
        let (long, next) = (bench.send(200), bench.send(20));
        for len in [64, 64] {
            assert_eq!(driver.raw.used(RECEIVE), None, "nothing of it");
            buffers.push((driver.room(RECEIVE, len), len));
            // The card has seen that: a command comes after it.
            driver.send(RECEIVE + 1, &[0; 20]);
        }
        for len in [64, 64] {
            buffers.push((driver.room(RECEIVE, len), len));
        }
        let mut buffers = buffers.into_iter();
        assert_eq!(driver.merged(&mut buffers), long);
        assert_eq!(driver.merged(&mut buffers), next);
        assert_eq!(bench.counters.receive().drops.total(), 0);
    });
}

#[test]
fn a_frame_that_waits_for_buffers_at_a_reset_is_lost_and_its_buffers_are_not_touched_again() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(MRG_RXBUF);
        driver.room(RECEIVE, 64);
        bench.send(200);
        let next = bench.send(20);
        driver.send(RECEIVE + 1, &[0; 20]);
        let mut driver = bench.drive(MRG_RXBUF);
        let room = driver.room(RECEIVE, 64);
        assert_eq!(driver.frame(RECEIVE, room), next);
        assert_eq!(bench.counters.receive().drops.length, 1);
    });
}

#[test]
fn the_longest_frame_fits_into_small_buffers_and_into_a_large_one() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(MRG_RXBUF);
        let buffers: Vec<_> = (0..16).map(|_| (driver.room(RECEIVE, 4098), 4098)).collect();
        let frame = bench.send(LONGEST);
        assert!(driver.merged(&mut buffers.into_iter()) == frame);

        let mut driver = bench.drive(Features::default());
        let room = driver.room(RECEIVE, HEADER + LONGEST);
        let frame = bench.send(LONGEST);
        assert!(driver.frame(RECEIVE, room) == frame);
        assert_eq!(bench.counters.receive().drops.total(), 0);
    });
}

#[test]
fn a_frame_that_all_of_the_drivers_buffers_have_no_room_for_is_lost() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(MRG_RXBUF);
        let buffers: Vec<_> = (0..16).map(|_| (driver.room(RECEIVE, 20), 20)).collect();
        bench.send(16 * 20 - HEADER + 1);
        let frames = [bench.send(40), bench.send(16 * 20 - 60 - HEADER)];
        let mut buffers = buffers.into_iter();
        for frame in frames {
            assert_eq!(driver.merged(&mut buffers), frame);
        }
        assert_eq!(bench.counters.receive().drops.length, 1);
    });
}

#[test]
fn a_frame_longer_than_any_is_lost() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(MRG_RXBUF);
        let buffers: Vec<_> = (0..16).map(|_| (driver.room(RECEIVE, 4200), 4200)).collect();
        bench.send(LONGEST + 1);
        let frame = bench.send(20);
        assert_eq!(driver.merged(&mut buffers.into_iter()), frame);
        assert_eq!(bench.counters.receive().drops.length, 1);
    });
}
