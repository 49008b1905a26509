//! The link: up and down, how fast, and how long its frames.

use cubie_testkit::{Guest, within};
use cubie_virtio_core::{Features, VirtioDevice};
use cubie_virtio_net::{Duplex, Loopback, Mac, Net};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_NET_F_MTU, VIRTIO_NET_F_SPEED_DUPLEX, VIRTIO_NET_F_STATUS,
};

use crate::driver::*;

const STATUS: Features = Features::bit(VIRTIO_NET_F_STATUS);
const MTU: Features = Features::bit(VIRTIO_NET_F_MTU);
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

fn net() -> (Net<Loopback>, Loopback) {
    let (cable, end) = Loopback::pair().unwrap();
    (Net::new(cable, Mac::made_from("test")), end)
}

#[test]
fn nothing_passes_while_the_link_is_down_and_the_guest_is_told() {
    within(DEADLINE, || {
        let (net, end) = net();
        let (link, counters) = (net.link(), net.counters());
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        let mut driver = Driver::new(&guest, &slot, STATUS, 1);
        let room = driver.room(RECEIVE, 64);
        let status = || {
            let mut status = [0; 2];
            slot.config().read(6, &mut status);
            u16::from_le_bytes(status)
        };
        assert_eq!(status(), 1);
        let _ = slot.interrupt().read();
        link.set_up(false);
        slot.wait_interrupt(DEADLINE);
        assert_eq!(status(), 0);
        assert!(!link.is_up());
        driver.send(TRANSMIT, &[1; 20]);
        assert!(end.send_frame(&[2; 20]));
        while counters.receive().drops.link_down == 0 {
            std::thread::yield_now();
        }
        assert_eq!(counters.transmit().drops.link_down, 1);
        assert_eq!(end.wait_frame(std::time::Duration::ZERO), None);

        let _ = slot.interrupt().read();
        link.set_up(true);
        slot.wait_interrupt(DEADLINE);
        assert_eq!(status(), 1);
        link.set_up(true);
        assert!(slot.interrupt().read().is_err(), "no change, no interrupt");
        assert!(end.send_frame(&[3; 20]));
        assert_eq!(driver.frame(RECEIVE, room), [3; 20]);
        driver.send(TRANSMIT, &[4; 20]);
        assert_eq!(end.wait_frame(DEADLINE), Some(vec![4; 20]));
    });
}

#[test]
fn a_driver_that_was_told_the_mtu_gets_no_longer_frames() {
    within(DEADLINE, || {
        let (net, end) = net();
        let net = net.with_mtu(100).unwrap();
        let counters = net.counters();
        let mut mtu = [0; 2];
        net.config().read(10, &mut mtu);
        assert_eq!(mtu, [100, 0]);
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        for (features, longest) in [(MTU, 118), (Features(0), 119)] {
            let mut driver = Driver::new(&guest, &slot, features, 1);
            let room = driver.room(RECEIVE, 200);
            assert!(end.send_frame(&[1; 119]));
            assert!(end.send_frame(&[2; 118]));
            assert_eq!(driver.frame(RECEIVE, room).len(), longest);
        }
        assert_eq!(counters.receive().drops.length, 1);
    });
}

#[test]
fn an_mtu_that_no_card_can_have_is_refused() {
    for mtu in [0, 67] {
        let error = net().0.with_mtu(mtu).err().unwrap().to_string();
        assert!(error.contains("68 to 65535 bytes, not"), "{error}");
    }
    assert!(!net().0.features().has(MTU));
    assert!(net().0.with_mtu(68).unwrap().features().has(MTU));
}

#[test]
fn the_speed_is_told_and_no_more_than_can_be_told() {
    for (mbits, expected) in [(2500, 2500), (u32::MAX, 0x7fff_ffff)] {
        let net = net().0.with_speed(mbits, Duplex::Full);
        assert!(net.features().has_bit(VIRTIO_NET_F_SPEED_DUPLEX));
        let mut speed = [0; 5];
        net.config().read(12, &mut speed);
        assert_eq!(u32::from_le_bytes(speed[..4].try_into().unwrap()), expected);
        assert_eq!(speed[4], 1);
    }
}

#[test]
fn a_driver_is_asked_to_announce_itself_until_it_has() {
    within(DEADLINE, || {
        let (net, _end) = net();
        let link = net.link();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        assert!(!link.announce(), "there is no driver");
        drop(Driver::new(&guest, &slot, STATUS, 1));
        assert!(!link.announce(), "it cannot");
        let announces = STATUS.with(Features::bit(VIRTIO_NET_F_GUEST_ANNOUNCE));
        let status = || {
            let mut status = [0; 2];
            slot.config().read(6, &mut status);
            u16::from_le_bytes(status)
        };
        for said in [true, false] {
            let mut driver = Driver::new(&guest, &slot, announces, 1);
            assert_eq!(status(), 1);
            let _ = slot.interrupt().read();
            assert!(link.announce());
            slot.wait_interrupt(DEADLINE);
            assert_eq!(status(), 3);
            if said {
                assert_eq!(driver.command(3, 0, &[]), OK);
                assert_eq!(status(), 1);
            }
        }
        drop(Driver::new(&guest, &slot, announces, 1));
        assert_eq!(status(), 1, "the next driver was not asked");
    });
}
