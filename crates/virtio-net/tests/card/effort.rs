//! What it takes to move frames, as the card counts it.

use std::os::unix::net::UnixDatagram;

use cubie_testkit::{Guest, within};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Counters, Effort, Mac, Net, NetHeader};
use virtio_bindings::virtio_mmio::VIRTIO_MMIO_STATUS;
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;

use crate::driver::*;
use crate::packets::Packets;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

fn card(features: Features) -> (Driver, UnixDatagram, Counters) {
    let (packets, host) = Packets::new(Features::default(), Features::default());
    let net = Net::new(packets, Mac::made_from("test"));
    let counters = net.counters();
    let guest = Guest::new();
    let slot = guest.plug(Box::new(net));
    (Driver::new(&guest, &slot, features, 1), host, counters)
}

/// A packet for the guest.
fn packet(len: usize) -> Vec<u8> {
    vec![0; NetHeader::LEN + len]
}

impl Driver {
    /// Resets the card, whose threads have then counted all.
    fn reset(&mut self) {
        self.raw.transport().write(VIRTIO_MMIO_STATUS, 0);
    }
}

#[test]
fn kicks_batches_and_interrupts_of_single_frames_are_as_many_as_these() {
    within(DEADLINE, || {
        let (mut driver, host, counters) = card(Features::default());
        let frames = 130;
        let mut bytes = [0; 100];
        for _ in 0..frames {
            driver.send(TRANSMIT, &[0; 60]);
            host.recv(&mut bytes).unwrap();
            let buffer = driver.room(RECEIVE, 1526);
            host.send(&packet(60)).unwrap();
            driver.frame(RECEIVE, buffer);
        }
        driver.reset();
        let [receive, transmit] = counters.effort();
        for effort in [receive, transmit] {
            assert_eq!(effort.kicks, Some(frames), "{effort:?}");
            assert_eq!((effort.batches, effort.interrupts), (frames, frames), "{effort:?}");
            assert_eq!((effort.chains, effort.own_kicks), (frames, 0));
            // And once at the start.
            assert!((1..=frames + 1).contains(&effort.woken_by_kicks), "{effort:?}");
            // One turn of 61, of which some move nothing and some more than one.
            let samples = effort.samples;
            assert!((1..=frames / 10).contains(&samples.turns), "{samples:?}");
            assert_eq!(samples.turn.count(), samples.turns);
            assert!(samples.frames >= samples.turns && samples.call.count() >= samples.frames);
            assert!(samples.nanos > samples.host, "{samples:?}");
        }
        assert_eq!(transmit.empty_calls, 0);
        // Whether the buffer or the frame is there first, at last there is none of one.
        assert!(receive.empty_calls > 0 && receive.woken_by_host > 0);
        assert_eq!((receive.copied, receive.held), (0, 0));
    });
}

#[test]
fn a_batch_is_one_kick_and_one_interrupt() {
    within(DEADLINE, || {
        let (mut driver, host, counters) = card(Features::default());
        (0..10).for_each(|_| _ = driver.room(RECEIVE, 1526));
        // The card waits for frames from here on: a frame of the guest's comes after that.
        driver.send(TRANSMIT, &[0; 60]);
        let before = counters.effort()[RECEIVE];
        (0..10).for_each(|_| _ = host.send(&packet(60)).unwrap());
        (0..10).for_each(|_| _ = driver.raw.wait_used(RECEIVE, DEADLINE));
        driver.reset();
        let effort = counters.effort()[RECEIVE].since(before);
        assert!((1..=10).contains(&effort.batches) && effort.interrupts == effort.batches);
        assert_eq!((effort.chains, effort.kicks), (10, Some(0)));
    });
}

#[test]
fn what_waits_for_buffers_is_counted_once_and_its_copy_by_bytes() {
    within(DEADLINE, || {
        let (mut driver, host, counters) = card(Features::bit(VIRTIO_NET_F_MRG_RXBUF));
        let first = driver.room(RECEIVE, 64);
        host.send(&packet(200)).unwrap();
        for _ in 0..2 {
            driver.room(RECEIVE, 64);
            // The card has seen that: it is still too little.
            driver.send(TRANSMIT, &[0; 20]);
        }
        driver.room(RECEIVE, 64);
        assert_eq!(driver.frame(RECEIVE, first).len(), 64 - HEADER);
        driver.reset();
        let Effort { held, copied, chains, .. } = counters.effort()[RECEIVE];
        // The header and the frame's first bytes came into those buffers that were there at first.
        assert_eq!((held, chains), (1, 4));
        assert!(copied <= 200 + HEADER as u64 - 64 && copied > 0, "{copied} bytes");
    });
}

#[test]
fn a_card_that_finds_no_buffer_says_so() {
    within(DEADLINE, || {
        let (mut driver, host, counters) = card(Features::default());
        let before = counters.effort()[RECEIVE];
        host.send(&packet(60)).unwrap();
        let buffer = driver.room(RECEIVE, 1526);
        driver.frame(RECEIVE, buffer);
        driver.reset();
        assert!(counters.effort()[RECEIVE].since(before).starved > 0);
    });
}
