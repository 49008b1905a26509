//! A tap with several queues.

use std::fs::File;
use std::io::{Read, Write};

use cubie_testkit::{Descriptor, Guest, RawDriver, Slot, within};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Mac, Net, Tap, TapError};
use virtio_bindings::virtio_net::{VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ};
use vm_memory::{Bytes, GuestAddress};

use crate::host::{host_side, host_side_of};
use crate::{DEADLINE, frame, tap};

/// Ethernet, IPv4 and UDP, from a port of its own, with the port's number as payload.
fn datagram(port: u16) -> Vec<u8> {
    let ip = [0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    let [a, b] = port.to_be_bytes();
    let udp = [a, b, 0, 9, 0, 10, 0, 0, a, b];
    let (to, from) = (Mac::made_from("test").bytes(), [2, 0, 0, 0, 0, 1]);
    [&to[..], &from, &[8, 0], &ip, &udp].concat()
}

const FLOWS: u16 = 64;
const CONTROL: usize = 4;

/// A driver of a card with two pairs, on a tap.
struct Two {
    guest: Guest,
    driver: RawDriver,
    /// The only buffer of each receive queue.
    buffers: [GuestAddress; 2],
}

impl Two {
    fn new(guest: &Guest, slot: &Slot) -> Self {
        let features = [VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ].map(Features::bit);
        let driver = RawDriver::new(slot, features[0].with(features[1]), &[16; CONTROL + 1]);
        let buffers = [guest.buffer(1526), guest.buffer(1526)];
        let mut two = Self { guest: guest.clone(), driver, buffers };
        (0..2).for_each(|pair| two.offer(pair));
        two
    }

    fn offer(&mut self, pair: usize) {
        self.driver.offer(2 * pair, &[Descriptor::writable(self.buffers[pair].0, 1526)]);
    }

    fn use_pairs(&mut self, pairs: u8) {
        let (ask, ack) = (self.guest.buffer(4), self.guest.buffer(1));
        self.guest.memory().write_slice(&[4, 0, pairs, 0], ask).unwrap();
        let chain = [Descriptor::readable(ask.0, 4), Descriptor::writable(ack.0, 1)];
        self.driver.offer(CONTROL, &chain);
        self.driver.wait_used(CONTROL, DEADLINE);
        assert_eq!(self.guest.memory().read_obj::<u8>(ack).unwrap(), 0);
    }

    /// Has the host send a datagram from each port. By which pairs they come.
    fn pairs_of_flows(&mut self, host: &mut File) -> Vec<usize> {
        (0..FLOWS).for_each(|port| host.write_all(&datagram(port)).unwrap());
        let mut pairs = vec![None; FLOWS.into()];
        while pairs.contains(&None) {
            for pair in 0..2 {
                let Some(used) = self.driver.used(2 * pair) else { continue };
                let mut frame = vec![0; used.written as usize - 12];
                let at = GuestAddress(self.buffers[pair].0 + 12);
                self.guest.memory().read_slice(&mut frame, at).unwrap();
                // The kernel greets new interfaces with frames of its own.
                if frame.starts_with(&Mac::made_from("test").bytes()) {
                    let port = u16::from_be_bytes(frame[34..36].try_into().unwrap());
                    assert_eq!(frame, datagram(port));
                    assert_eq!(pairs[usize::from(port)].replace(pair), None, "once");
                }
                self.offer(pair);
            }
            std::thread::yield_now();
        }
        pairs.into_iter().flatten().collect()
    }
}

#[test]
fn a_tap_with_two_queues_has_frames_for_both_if_the_driver_uses_both() {
    within(DEADLINE, || {
        let taps = match Tap::open_queues(None, 2) {
            Err(error @ (TapError::Missing | TapError::Device | TapError::NotPermitted(_))) => {
                return eprintln!("skipped: {error}");
            }
            taps => taps.unwrap(),
        };
        let name = taps[0].name().to_owned();
        assert!(taps.len() == 2 && taps[1].name() == name);
        let (mut host, mut ours) = (host_side_of(&name, 0x0800), host_side(&name));
        let net = Net::with_pairs(taps, Mac::made_from("test")).unwrap();
        let counters = net.counters();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        for _ in 0..2 {
            let mut two = Two::new(&guest, &slot);
            assert_eq!(two.pairs_of_flows(&mut host), [0; FLOWS as usize]);
            for _ in 0..3 {
                two.use_pairs(2);
                let pairs = two.pairs_of_flows(&mut host);
                assert!(pairs.contains(&0) && pairs.contains(&1), "{pairs:?}");
                two.use_pairs(1);
                assert_eq!(two.pairs_of_flows(&mut host), [0; FLOWS as usize]);
            }
            two.use_pairs(2);
            let sent = frame(b"from the second pair");
            let buffer = guest.buffer(12 + sent.len());
            guest.memory().write_slice(&sent, GuestAddress(buffer.0 + 12)).unwrap();
            let len = 12 + sent.len() as u32;
            two.driver.offer(3, &[Descriptor::readable(buffer.0, len)]);
            let mut seen = vec![0; 2000];
            let count = ours.read(&mut seen).unwrap();
            assert_eq!(seen[..count], sent);
        }
        assert_eq!((counters.transmit().drops.total(), counters.receive().drops.total()), (0, 0));
    });
}

#[test]
fn a_tap_for_one_queue_cannot_have_two_nor_the_other_way_round() {
    let name = format!("cubie-q{}", std::process::id() % 100_000);
    let Some(one) = tap(Some(&name)) else { return };
    let error = Tap::open_queues(Some(&name), 2).unwrap_err();
    assert!(matches!(&error, TapError::NotSeveral(who) if *who == name), "{error}");
    drop(one);
    let _several = Tap::open_queues(Some(&name), 2).unwrap();
    let error = Tap::open(Some(&name)).unwrap_err();
    assert!(matches!(&error, TapError::NotATap(who) if *who == name), "{error}");
}
