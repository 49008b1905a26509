//! What the host leaves to the driver, and the driver's say in it.

use std::os::unix::net::UnixDatagram;

use cubie_testkit::{Guest, Slot, within};
use cubie_virtio_core::{Features, VirtioDevice};
use cubie_virtio_net::{Counters, Mac, Net, NetHeader};
use virtio_bindings::virtio_net::*;
use vm_memory::Bytes;

use crate::driver::*;
use crate::packets::{Packets, Told};

const CSUM: Features = Features::bit(VIRTIO_NET_F_GUEST_CSUM);
const TSO4: Features = Features::bit(VIRTIO_NET_F_GUEST_TSO4);
const USO6: Features = Features::bit(VIRTIO_NET_F_GUEST_USO6);
const CTRL: Features = Features::bit(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
const RECEIVE: usize = 0;

struct Bench {
    guest: Guest,
    slot: Slot,
    host: UnixDatagram,
    told: Told,
    counters: Counters,
}

impl Bench {
    fn new() -> Self {
        let (packets, host) = Packets::new(Features::default(), CSUM.with(TSO4).with(USO6));
        let told = packets.told();
        let net = Net::new(packets, Mac::made_from("test"));
        assert!(net.features().has(CSUM.with(TSO4).with(USO6).with(CTRL)));
        let counters = net.counters();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        Self { guest, slot, host, told, counters }
    }

    fn drive(&self, features: Features) -> Driver {
        Driver::new(&self.guest, &self.slot, features, 1)
    }

    fn told(&self) -> Option<Features> {
        self.told.lock().unwrap().last().copied()
    }
}

impl Driver {
    #[track_caller]
    fn take_over(&mut self, offloads: Features) -> u8 {
        self.command(5, 0, &offloads.0.to_le_bytes())
    }

    /// The header of the next frame.
    #[track_caller]
    fn header(&mut self) -> NetHeader {
        let buffer = self.room(RECEIVE, 64);
        assert_eq!(self.raw.wait_used(RECEIVE, DEADLINE).written, 32);
        let mut bytes = [0; HEADER];
        self.guest.memory().read_slice(&mut bytes, buffer).unwrap();
        NetHeader::from_bytes(bytes)
    }
}

fn send(host: &UnixDatagram, header: NetHeader) {
    host.send(&[&header.to_bytes()[..], &[7; 20]].concat()).unwrap();
}

const PLAIN: NetHeader = NetHeader {
    flags: 0,
    gso_type: 0,
    hdr_len: 0,
    gso_size: 0,
    csum_start: 0,
    csum_offset: 0,
    num_buffers: 1,
};
const SEGMENTS: NetHeader = NetHeader {
    flags: 1,
    gso_type: 1,
    hdr_len: 54,
    gso_size: 9,
    csum_start: 34,
    csum_offset: 16,
    num_buffers: 1,
};

#[test]
fn a_card_without_such_offloads_does_not_let_them_be_turned_off() {
    let net = Net::new(Packets::new(TSO4, TSO4).0, Mac::made_from("test"));
    assert_eq!(net.features().and(CSUM.with(TSO4).with(CTRL)), Features::default());
}

#[test]
fn the_driver_may_take_less_over_and_more_again() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(CSUM.with(TSO4).with(CTRL));
        send(&bench.host, SEGMENTS);
        assert_eq!(driver.header(), SEGMENTS);
        assert_eq!(bench.told(), Some(CSUM.with(TSO4)));
        let checked = NetHeader { flags: 2, ..PLAIN };
        for (offloads, dropped) in [(CSUM, 1), (Features(0), 2), (CSUM.with(TSO4), 2)] {
            assert_eq!(driver.take_over(offloads), OK);
            assert_eq!(bench.told(), Some(offloads));
            send(&bench.host, SEGMENTS);
            send(&bench.host, checked);
            if offloads.has(TSO4) {
                assert_eq!(driver.header(), SEGMENTS);
            }
            let expected = if offloads.has(CSUM) { checked } else { PLAIN };
            assert_eq!(driver.header(), expected);
            assert_eq!(bench.counters.receive().drops.header, dropped);
        }
        for offloads in [USO6, CSUM.with(Features(1))] {
            assert_eq!(driver.take_over(offloads), ERR, "not negotiated, or no offload");
        }
        assert_eq!(bench.told(), Some(CSUM.with(TSO4)));
    });
}

#[test]
fn what_the_host_does_not_do_is_refused_and_what_held_before_holds() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(CSUM.with(TSO4).with(USO6).with(CTRL));
        assert_eq!(bench.told(), Some(CSUM.with(TSO4).with(USO6)), "and refused at the start");
        assert_eq!(driver.take_over(CSUM.with(TSO4)), OK);
        assert_eq!(driver.take_over(CSUM.with(USO6)), ERR);
        send(&bench.host, SEGMENTS);
        assert_eq!(driver.header(), SEGMENTS);
    });
}

#[test]
fn the_next_driver_begins_anew() {
    within(DEADLINE, || {
        let bench = Bench::new();
        let mut driver = bench.drive(CSUM.with(TSO4).with(CTRL));
        assert_eq!(driver.take_over(Features(0)), OK);
        let mut driver = bench.drive(CSUM.with(CTRL));
        assert_eq!(bench.told(), Some(CSUM));
        driver.send(RECEIVE + 1, &[0; 20]);
        drop(bench.drive(Features(0)));
        assert_eq!(bench.told(), Some(Features(0)));
    });
}
