//! A host end made outside of the crate, on a socket that keeps the borders of packets, as a tap does.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RawDriver, within};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Mac, Net, NetBackend, NetHeader, Received};
use cubie_virtq::Segments;
use virtio_bindings::virtio_net::{VIRTIO_NET_F_CSUM, VIRTIO_NET_F_MRG_RXBUF};
use vm_memory::{Bytes, GuestAddress};

const DEADLINE: Duration = Duration::from_secs(20);
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const CSUM: Features = Features::bit(VIRTIO_NET_F_CSUM);

struct Packets(UnixDatagram);

impl NetBackend for Packets {
    fn send(&mut self, header: &NetHeader, frame: &mut Segments) -> io::Result<()> {
        frame.write_packet(&header.to_bytes(), self.0.as_fd())
    }

    fn recv(&mut self, header: &mut NetHeader, room: &mut Segments) -> io::Result<Received> {
        let mut bytes = [0; NetHeader::LEN];
        match room.read_packet(&mut bytes, self.0.as_fd()) {
            Ok(len) => {
                *header = NetHeader::from_bytes(bytes);
                Ok(len.map_or(Received::Lost, Received::Frame))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    fn ready_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn offloads(&self) -> Features {
        // The second one is not an offload, and nothing a host end could promise.
        CSUM.with(Features::bit(VIRTIO_NET_F_MRG_RXBUF))
    }
}

struct Bench {
    guest: Guest,
    driver: RawDriver,
    host: UnixDatagram,
    net_drops: cubie_virtio_net::Drops,
}

fn bench() -> Bench {
    let (ours, host) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    host.set_read_timeout(Some(DEADLINE)).unwrap();
    let net = Net::new(Packets(ours), Mac::made_from("test"));
    let net_drops = net.drops();
    let guest = Guest::new();
    let slot = guest.plug(Box::new(net));
    let driver = RawDriver::new(&slot, CSUM, &[256, 256]);
    Bench { guest, driver, host, net_drops }
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
    let (ours, _host) = UnixDatagram::pair().unwrap();
    let net = Net::new(Packets(ours), Mac::made_from("test"));
    let features = cubie_virtio_core::VirtioDevice::features(&net);
    assert!(features.has(CSUM) && !features.has_bit(VIRTIO_NET_F_MRG_RXBUF));
}

#[test]
fn a_negotiated_offload_reaches_the_host_in_one_packet() {
    within(DEADLINE, || {
        let Bench { guest, mut driver, host, net_drops } = bench();
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
        assert_eq!(net_drops.transmit(), 0);
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
        assert_eq!(bench.net_drops.receive(), 3, "two kinds, and one without a header");
    });
}

#[test]
fn a_host_without_room_makes_the_guest_wait_and_a_host_that_is_gone_does_not() {
    within(DEADLINE, || {
        let Bench { guest, mut driver, host, net_drops } = bench();
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
        assert_eq!(net_drops.transmit(), 0);
        drop(host);
        driver.offer(TRANSMIT, &[Descriptor::readable(buffer, 64)]);
        driver.wait_used(TRANSMIT, DEADLINE);
        assert_eq!(net_drops.transmit(), 1);
    });
}
