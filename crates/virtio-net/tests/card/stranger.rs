//! A host end made outside of the crate, on a socket that keeps the borders of packets, as a tap does.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixDatagram;

use cubie_testkit::{Descriptor, Guest, RawDriver, within};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Counters, Mac, Net, NetBackend, NetHeader, Received};
use cubie_virtq::Segments;
use virtio_bindings::virtio_net::{VIRTIO_NET_F_CSUM, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_RSS};
use vm_memory::{Bytes, GuestAddress};

use crate::driver::DEADLINE;
use crate::packets::Packets;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const CSUM: Features = Features::bit(VIRTIO_NET_F_CSUM);

struct Bench {
    guest: Guest,
    driver: RawDriver,
    host: UnixDatagram,
    counters: Counters,
}

fn bench() -> Bench {
    let (packets, host) = Packets::new(CSUM, Features::default());
    let net = Net::new(packets, Mac::made_from("test"));
    let counters = net.counters();
    let guest = Guest::new();
    let slot = guest.plug(Box::new(net));
    let driver = RawDriver::new(&slot, CSUM, &[256, 256]);
    Bench { guest, driver, host, counters }
}

impl Bench {
    fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.guest.memory().read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }
}

#[test]
fn only_offloads_can_be_offered() {
    // The second one is not an offload, and nothing a host end could promise.
    let promises = CSUM.with(Features::bit(VIRTIO_NET_F_RSS));
    let net = Net::new(Packets::new(promises, promises).0, Mac::made_from("test"));
    let features = cubie_virtio_core::VirtioDevice::features(&net);
    assert!(features.has(CSUM) && !features.has_bit(VIRTIO_NET_F_RSS));
}

#[test]
fn a_negotiated_offload_reaches_the_host_in_one_packet() {
    within(DEADLINE, || {
        let Bench { guest, mut driver, host, counters } = bench();
        let header = NetHeader { flags: 1, csum_start: 14, csum_offset: 4, ..NetHeader::default() };
        // The header ends in the middle of the first buffer.
        let (one, two) = (guest.buffer(22), guest.buffer(10));
        guest.memory().write_slice(&header.to_bytes(), one).unwrap();
        guest.memory().write_slice(b"0123456789", GuestAddress(one.0 + 12)).unwrap();
        guest.memory().write_slice(b"abcdefghij", two).unwrap();
        let buffers = [Descriptor::readable(one.0, 22), Descriptor::readable(two.0, 10)];
        driver.offer(TRANSMIT, &buffers);
        let mut packet = [0; 64];
        let len = host.recv(&mut packet).unwrap();
        assert_eq!(packet[..12], header.to_bytes());
        assert_eq!(&packet[12..len], b"0123456789abcdefghij");
        assert_eq!(counters.transmit().drops.total(), 0);
    });
}

#[test]
fn what_the_guest_has_not_negotiated_does_not_reach_it() {
    within(DEADLINE, || {
        let mut bench = bench();
        let buffer = bench.guest.buffer(64).0;
        let packet =
            |header: NetHeader, letter: u8| [&header.to_bytes()[..], &[letter; 20]].concat();
        let plain = NetHeader::default();
        for (header, letter) in [
            (NetHeader { flags: 1, ..plain }, b'c'),
            (NetHeader { gso_type: 1, ..plain }, b's'),
            (NetHeader { flags: 2, hdr_len: 9, ..plain }, b'p'),
        ] {
            bench.host.send(&packet(header, letter)).unwrap();
        }
        bench.host.send(b"runt").unwrap();
        bench.host.send(&packet(plain, b'q')).unwrap();
        for letter in *b"pq" {
            bench.driver.offer(RECEIVE, &[Descriptor::writable(buffer, 64)]);
            assert_eq!(bench.driver.wait_used(RECEIVE, DEADLINE).written, 32);
            let one_buffer = NetHeader { num_buffers: 1, ..plain };
            assert_eq!(bench.read(buffer, 32), packet(one_buffer, letter));
        }
        assert_eq!(
            bench.counters.receive().drops.total(),
            3,
            "two kinds, and one without a header"
        );
    });
}

#[test]
fn a_host_without_room_makes_the_guest_wait_and_a_host_that_is_gone_does_not() {
    within(DEADLINE, || {
        let Bench { guest, mut driver, host, counters } = bench();
        let buffer = guest.buffer(64).0;
        for _ in 0..256 {
            driver.offer(TRANSMIT, &[Descriptor::readable(buffer, 64)]);
        }
        // A datagram socket's queue is shorter than that by default.
        let first = (0..256).map_while(|_| driver.used(TRANSMIT)).count();
        let mut packet = [0; 64];
        (0..256).for_each(|_| assert_eq!(host.recv(&mut packet).unwrap(), 64));
        for _ in first..256 {
            driver.wait_used(TRANSMIT, DEADLINE);
        }
        assert_eq!(counters.transmit().drops.total(), 0);
        drop(host);
        driver.offer(TRANSMIT, &[Descriptor::readable(buffer, 64)]);
        driver.wait_used(TRANSMIT, DEADLINE);
        assert_eq!(counters.transmit().drops.total(), 1);
    });
}

/// Says that it has received more than it was given room for, and then what it was given by others.
struct Boaster(Packets, bool);

impl NetBackend for Boaster {
    fn send(&mut self, header: &NetHeader, frame: &mut Segments) -> io::Result<()> {
        self.0.send(header, frame)
    }

    fn recv(&mut self, header: &mut NetHeader, room: &mut Segments) -> io::Result<Received> {
        match std::mem::replace(&mut self.1, true) {
            false => Ok(Received::Frame(room.len() + 1)),
            true => self.0.recv(header, room),
        }
    }

    fn ready_fd(&self) -> BorrowedFd<'_> {
        self.0.ready_fd()
    }
}

#[test]
fn a_host_end_that_boasts_costs_a_frame() {
    within(DEADLINE, || {
        let guest = Guest::new();
        for features in [Features::default(), Features::bit(VIRTIO_NET_F_MRG_RXBUF)] {
            let (packets, host) = Packets::new(Features::default(), Features::default());
            let net = Net::new(Boaster(packets, false), Mac::made_from("test"));
            let counters = net.counters();
            let slot = guest.plug(Box::new(net));
            let mut driver = RawDriver::new(&slot, features, &[8, 8]);
            let buffer = guest.buffer(64).0;
            for _ in 0..2 {
                driver.add(RECEIVE, &[Descriptor::writable(buffer, 64)]);
            }
            driver.kick(RECEIVE);
            host.send(&[&[0; NetHeader::LEN][..], &[7; 20]].concat()).unwrap();
            assert_eq!(driver.wait_used(RECEIVE, DEADLINE).written, 32);
            assert_eq!(counters.receive().drops.length, 1);
        }
    });
}
