//! The card through the driver of `virtio-drivers`, and through one without manners.

use std::thread;
use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, GuestHal, RawDriver, RegisterTransport, Slot, within};
use cubie_virtio_core::{Features, VirtioDevice};
use cubie_virtio_net::{Counters, Loopback, Mac, Net, NetHeader};
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_QUEUE_READY, VIRTIO_MMIO_QUEUE_SEL, VIRTIO_MMIO_STATUS,
};
use virtio_drivers::device::net::VirtIONetRaw;
use vm_memory::{Bytes, GuestAddress};

const DEADLINE: Duration = Duration::from_secs(20);
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const HEADER: usize = NetHeader::LEN;
/// The smallest buffer that a driver may offer (VIRTIO 1.4 §5.1.6.3.1).
const BUFFER: usize = 1526;

type Eth = VirtIONetRaw<GuestHal, RegisterTransport, 16>;

fn mac() -> Mac {
    Mac::made_from("test")
}

fn card() -> (Net<Loopback>, Loopback) {
    let (cable, far_end) = Loopback::pair().unwrap();
    (Net::new(cable, mac()), far_end)
}

fn driver(slot: &Slot) -> Eth {
    Eth::new(slot.transport()).unwrap()
}

/// The next frame for the guest, without its header.
fn receive(eth: &mut Eth) -> Vec<u8> {
    let mut buffer = vec![0xff; BUFFER];
    let (header, len) = eth.receive_wait(&mut buffer).unwrap();
    assert_eq!(buffer[..header], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], "a plain frame, one buffer");
    buffer[header..header + len].to_vec()
}

/// A frame of `len` bytes with a number of its own.
fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![number as u8; len];
    frame[..4].copy_from_slice(&number.to_le_bytes());
    frame
}

fn number(frame: &[u8]) -> u32 {
    u32::from_le_bytes(frame[..4].try_into().unwrap())
}

#[test]
fn the_driver_finds_the_address_and_a_link_that_is_up() {
    within(DEADLINE, || {
        let slot = Guest::new().plug(Box::new(card().0));
        assert_eq!(driver(&slot).mac_address(), mac().bytes());
        let mut status = [0; 2];
        slot.config().read(6, &mut status);
        assert_eq!(u16::from_le_bytes(status), 1);
    });
}

#[test]
fn a_card_offers_what_it_can_do_and_nothing_else() {
    assert_eq!(card().0.features(), Features(0b11 << 52 | 0b1011_1111 << 16 | 1 << 15 | 1 << 5));
}

#[test]
fn a_reset_takes_both_queues_back() {
    let slot = Guest::new().plug(Box::new(card().0));
    let mut driver = RawDriver::new(&slot, Features::default(), &[8, 8]);
    let ready = |registers: &mut RegisterTransport| {
        [RECEIVE, TRANSMIT].map(|queue| {
            registers.write(VIRTIO_MMIO_QUEUE_SEL, queue as u32);
            registers.read(VIRTIO_MMIO_QUEUE_READY)
        })
    };
    assert_eq!(ready(driver.transport()), [1, 1]);
    driver.transport().write(VIRTIO_MMIO_STATUS, 0);
    assert_eq!(ready(driver.transport()), [0, 0]);
}

#[test]
fn frames_of_every_length_come_back_from_a_loopback() {
    within(DEADLINE, || {
        let net = Net::new(Loopback::new().unwrap(), mac());
        let counters = net.counters();
        let slot = Guest::new().plug(Box::new(net));
        let mut eth = driver(&slot);
        for (n, len) in (14..=BUFFER - HEADER).enumerate() {
            let sent = frame(n as u32, len);
            eth.send(&sent).unwrap();
            assert!(receive(&mut eth) == sent, "a frame of {len} bytes");
        }
        assert_eq!((counters.transmit().drops.total(), counters.receive().drops.total()), (0, 0));
    });
}

#[test]
fn no_frame_is_lost_and_none_overtakes_another() {
    within(DEADLINE, || {
        let (net, far_end) = card();
        let slot = Guest::new().plug(Box::new(net));
        let mut eth = driver(&slot);
        let echo = thread::spawn(move || {
            for n in 0..2000 {
                let frame = far_end.wait_frame(DEADLINE).expect("a frame from the guest");
                assert_eq!(number(&frame), n);
                assert!(far_end.send_frame(&frame));
            }
        });
        for n in 0..2000 {
            eth.send(&frame(n, 60)).unwrap();
            if n % 10 == 9 {
                (n - 9..=n).for_each(|n| assert_eq!(number(&receive(&mut eth)), n));
            }
        }
        echo.join().unwrap();
    });
}

#[test]
fn a_full_cable_makes_the_guest_wait() {
    within(DEADLINE, || {
        let (net, far_end) = card();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        let mut driver = RawDriver::new(&slot, Features::default(), &[256, 256]);
        let offer = |driver: &mut RawDriver, n| {
            let buffer = guest.buffer(HEADER + 14);
            let at = GuestAddress(buffer.0 + HEADER as u64);
            guest.memory().write_slice(&frame(n, 14), at).unwrap();
            driver.offer(TRANSMIT, &[Descriptor::readable(buffer.0, (HEADER + 14) as u32)]);
        };
        for n in 0..256 {
            offer(&mut driver, n);
            driver.wait_used(TRANSMIT, DEADLINE);
        }
        (256..300).for_each(|n| offer(&mut driver, n));
        assert_eq!(driver.used(TRANSMIT), None, "the 257th frame waits");
        for n in 0..300 {
            assert_eq!(number(&far_end.wait_frame(DEADLINE).expect("a frame")), n);
        }
        for _ in 256..300 {
            driver.wait_used(TRANSMIT, DEADLINE);
        }
    });
}

#[test]
fn a_frame_that_cannot_be_right_is_lost_and_nothing_more() {
    within(DEADLINE, || {
        let (net, far_end) = card();
        let counters = net.counters();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        let mut driver = RawDriver::new(&slot, Features::default(), &[8, 8]);
        let buffer = guest.buffer(HEADER + 65_551).0;
        let mut send = |len: usize| {
            let descriptor = Descriptor::readable(buffer, len as u32);
            driver.offer(TRANSMIT, &[descriptor]);
            assert_eq!(driver.wait_used(TRANSMIT, DEADLINE).written, 0);
        };
        let wrong = [1, HEADER - 1, HEADER, HEADER + 13, HEADER + 65_551];
        wrong.into_iter().for_each(&mut send);
        assert_eq!(counters.transmit().drops.total(), 5);
        // Flags: a checksum is to be made, which nobody has negotiated.
        guest.memory().write_obj(1u8, GuestAddress(buffer)).unwrap();
        send(HEADER + 14);
        assert_eq!(counters.transmit().drops.total(), 6);
        guest.memory().write_obj(0u8, GuestAddress(buffer)).unwrap();
        send(HEADER + 65_550);
        assert_eq!(far_end.wait_frame(DEADLINE).expect("the good one").len(), 65_550);
        assert_eq!(far_end.wait_frame(Duration::ZERO), None);
        assert_eq!(counters.transmit().drops.total(), 6);
    });
}

#[test]
fn a_frame_longer_than_the_buffer_is_lost_and_the_next_one_gets_it() {
    within(DEADLINE, || {
        let (net, far_end) = card();
        let counters = net.counters();
        let slot = Guest::new().plug(Box::new(net));
        for n in 0..100 {
            assert!(far_end.send_frame(&frame(n, BUFFER - HEADER + 1)));
        }
        assert!(far_end.send_frame(&frame(100, BUFFER - HEADER)));
        assert_eq!(number(&receive(&mut driver(&slot))), 100);
        assert_eq!(counters.receive().drops.total(), 100);
    });
}

#[test]
fn a_buffer_without_room_for_a_header_is_given_back() {
    within(DEADLINE, || {
        let (net, far_end) = card();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(net));
        let mut driver = RawDriver::new(&slot, Features::default(), &[8, 8]);
        assert!(far_end.send_frame(&frame(7, 20)));
        let buffer = guest.buffer(64).0;
        for useless in [Descriptor::writable(buffer, 11), Descriptor::readable(buffer, 64)] {
            driver.offer(RECEIVE, &[useless]);
            assert_eq!(driver.wait_used(RECEIVE, DEADLINE).written, 0);
        }
        driver.offer(RECEIVE, &[Descriptor::writable(buffer, 64)]);
        assert_eq!(driver.wait_used(RECEIVE, DEADLINE).written, 32, "the frame was kept");
    });
}

#[test]
fn drivers_and_slots_may_change_under_traffic() {
    within(DEADLINE, || {
        let (net, far_end) = card();
        let counters: Counters = net.counters();
        let guest = Guest::new();
        let flood = thread::spawn(move || {
            let mut n = 0;
            // Until the guest answers.
            while far_end.wait_frame(Duration::ZERO).is_none() {
                n += u32::from(far_end.send_frame(&frame(n, 60)));
            }
        });
        let mut device: Box<dyn VirtioDevice> = Box::new(net);
        let mut last = None;
        for round in 0..20 {
            let socket = guest.socket();
            let slot = if round % 2 == 0 { socket.trapped() } else { socket }.plug(device);
            for _ in 0..2 {
                let mut eth = driver(&slot);
                for _ in 0..50 {
                    let next = Some(number(&receive(&mut eth)));
                    assert!(last < next, "{last:?}, then {next:?}");
                    last = next;
                }
            }
            device = slot.unplug();
        }
        let slot = guest.plug(device);
        driver(&slot).send(b"that will do, thanks").unwrap();
        flood.join().unwrap();
        assert_eq!((counters.transmit().drops.total(), counters.receive().drops.total()), (0, 0));
    });
}
