//! A cable that goes nowhere.

use cubie_testkit::{Guest, within};
use cubie_virtio_core::{Features, VirtioDevice};
use cubie_virtio_net::{Mac, Net, NetHeader, Null};
use virtio_bindings::virtio_net::*;
use vm_memory::{Bytes, GuestAddress};

use crate::driver::*;

const CSUM: Features = Features::bit(VIRTIO_NET_F_CSUM);
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

fn card(null: Null) -> Net<Null> {
    Net::new(null, Mac::made_from("test"))
}

#[test]
fn whatever_is_sent_is_gone_and_counted() {
    within(DEADLINE, || {
        let net = card(Null::new().unwrap());
        for offload in [VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_USO] {
            assert!(net.features().has_bit(offload));
        }
        let counters = net.counters();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        let mut driver = Driver::new(&guest, &slot, CSUM, 1);
        let _nothing_comes = driver.room(RECEIVE, 64);
        let buffer = guest.buffer(HEADER + 65_550);
        let header = NetHeader { flags: VIRTIO_NET_HDR_F_NEEDS_CSUM as u8, ..NetHeader::default() };
        guest.memory().write_slice(&header.to_bytes(), buffer).unwrap();
        for len in [14, 1514, 65_550] {
            let descriptor = cubie_testkit::Descriptor::readable(buffer.0, (HEADER + len) as u32);
            driver.raw.offer(TRANSMIT, &[descriptor]);
            driver.raw.wait_used(TRANSMIT, DEADLINE);
        }
        let sent = counters.transmit();
        assert_eq!((sent.frames, sent.bytes, sent.drops.total()), (3, 14 + 1514 + 65_550, 0));
        assert_eq!(counters.receive().frames, 0);
    });
}

#[test]
fn frames_come_until_they_are_counted_out() {
    within(DEADLINE, || {
        let net = card(Null::new().unwrap().with_frames(50, 60));
        let counters = net.counters();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        let mut driver = Driver::new(&guest, &slot, Features(0), 1);
        for _ in 0..49 {
            let room = driver.room(RECEIVE, 72);
            let frame = driver.frame(RECEIVE, room);
            assert_eq!(
                (frame.len(), &frame[..6], &frame[12..14]),
                (60, &[0xff; 6][..], &[0x88, 0xb5][..])
            );
        }
        // The last one has too little room.
        let _small: GuestAddress = driver.room(RECEIVE, 71);
        while counters.receive().drops.length == 0 {
            std::thread::yield_now();
        }
        driver.send(TRANSMIT, &[1; 14]);
        assert_eq!((counters.receive().frames, counters.receive().drops.total()), (49, 1));
    });
}

#[test]
fn frames_without_end_come_as_long_as_there_are_buffers_and_let_the_card_go() {
    within(DEADLINE, || {
        // Shorter than a frame can be.
        let net = card(Null::new().unwrap().with_frames(u64::MAX, 0));
        let counters = net.counters();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        for _ in 0..2 {
            let mut driver = Driver::new(&guest, &slot, Features(0), 1);
            for _ in 0..1000 {
                let room = driver.room(RECEIVE, 64);
                assert_eq!(driver.frame(RECEIVE, room).len(), 14);
            }
        }
        drop(slot.unplug());
        assert_eq!(counters.receive().frames, 2000);
    });
}
