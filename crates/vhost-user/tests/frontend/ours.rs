//! Each of our devices behind a socket, with our registers before it: over split rings and packed ones.

use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, GuestHal, RawDriver, within};
use cubie_vhost_user::{DaemonKind, FrontEnd};
use cubie_virtio_blk::{Blk, MemoryDisk};
use cubie_virtio_console::{Console, Memory, WindowSize};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Loopback, Mac, Net};
use cubie_virtio_rng::{HostEntropy, Rng};
use virtio_drivers::device::net::VirtIONetRaw;
use vm_memory::{Bytes, GuestAddress};

use crate::served::{DEADLINE, Served};

/// What a driver chooses.
const RINGS: [Features; 2] = [
    Features::INDIRECT.with(Features::EVENT_IDX),
    Features::INDIRECT.with(Features::EVENT_IDX).with(Features::PACKED),
];

fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    (folder, path)
}

#[test]
fn entropy_comes_through_either_ring_and_again_after_a_queue_was_reset() {
    within(DEADLINE, || {
        let ((_folder, path), guest) = (folder(), Guest::new());
        let _served = Served::new(&path, Rng::new(HostEntropy));
        for rings in RINGS {
            for socket in [guest.socket(), guest.socket().trapped()] {
                let slot =
                    socket.plug(Box::new(FrontEnd::connect(&path, DaemonKind::Rng).unwrap()));
                let features = rings.with(Features::RING_RESET);
                let mut driver = RawDriver::new(&slot, features, &[8]);
                for round in 0..40 {
                    let buffer = guest.buffer(64);
                    guest.memory().write_slice(&[0; 64], buffer).unwrap();
                    driver.offer(0, &[Descriptor::writable(buffer.0, 64)]);
                    assert_eq!(driver.wait_used(0, DEADLINE).written, 64);
                    let mut bytes = [0; 64];
                    guest.memory().read_slice(&mut bytes, buffer).unwrap();
                    assert_ne!(bytes, [0; 64]);
                    if round == 20 {
                        driver.reset_queue(0);
                        driver.renew_queue(0, 4);
                    }
                }
            }
        }
    });
}

#[test]
fn a_paused_disk_goes_on_where_it_was() {
    within(DEADLINE, || {
        let ((_folder, path), guest) = (folder(), Guest::new());
        let bytes: Vec<u8> = (0..64 * 512).map(|n| (n / 512) as u8).collect();
        let disk = Blk::new(MemoryDisk::new(bytes), "far".parse().unwrap());
        let _served = Served::new(&path, disk);
        for rings in RINGS {
            let kind = DaemonKind::Block { queues: 1 };
            let slot = guest.plug(Box::new(FrontEnd::connect(&path, kind).unwrap()));
            let mut driver = RawDriver::new(&slot, rings, &[16]);
            let (header, data, status) = (guest.buffer(16), guest.buffer(512), guest.buffer(1));
            for sector in 0..64u64 {
                guest.memory().write_obj(0u64, header).unwrap();
                guest.memory().write_obj(sector, GuestAddress(header.0 + 8)).unwrap();
                if sector % 10 == 3 {
                    slot.save();
                    slot.resume().unwrap();
                }
                driver.offer(
                    0,
                    &[
                        Descriptor::readable(header.0, 16),
                        Descriptor::writable(data.0, 512),
                        Descriptor::writable(status.0, 1),
                    ],
                );
                assert_eq!(driver.wait_used(0, DEADLINE).written, 513);
                let mut bytes = [0xff; 512];
                guest.memory().read_slice(&mut bytes, data).unwrap();
                assert_eq!(bytes, [sector as u8; 512]);
            }
        }
    });
}

#[test]
fn frames_pass_a_card_whose_control_queue_is_nobodys() {
    within(DEADLINE, || {
        let ((_folder, path), guest) = (folder(), Guest::new());
        let (cable, far_end) = Loopback::pair().unwrap();
        let _served = Served::new(&path, Net::new(cable, Mac::made_from("daemon's")));
        for mac in [None, Some([2, 0, 0, 7, 7, 7])] {
            let device = FrontEnd::connect(&path, DaemonKind::Net { mac }).unwrap();
            let slot = guest.plug(Box::new(device));
            let mut card = VirtIONetRaw::<GuestHal, _, 16>::new(slot.transport()).unwrap();
            let seen = mac.unwrap_or(Mac::made_from("daemon's").bytes());
            assert_eq!(card.mac_address(), seen);
            for number in 0..50u8 {
                let frame = vec![number; 60 + usize::from(number)];
                card.send(&frame).unwrap();
                assert_eq!(far_end.wait_frame(DEADLINE), Some(frame.clone()));
                assert!(far_end.send_frame(&frame));
                let mut buffer = vec![0; 1526];
                let (header, len) = card.receive_wait(&mut buffer).unwrap();
                assert_eq!(buffer[header..][..len], frame);
            }
        }
    });
}

#[test]
fn a_console_that_changes_its_size_far_away_tells_the_guest() {
    within(DEADLINE, || {
        let ((_folder, path), guest) = (folder(), Guest::new());
        let (end, _person) = Memory::new().unwrap();
        let console = Console::new(end, WindowSize { columns: 80, rows: 25 });
        let resizer = console.resizer();
        let _served = Served::new(&path, console);
        let slot = guest.plug(Box::new(FrontEnd::connect(&path, DaemonKind::Console).unwrap()));
        let _driver = RawDriver::new(&slot, Features::bit(0), &[8, 8]);
        let size = || {
            let mut bytes = [0; 4];
            slot.config().read(0, &mut bytes);
            bytes
        };
        assert_eq!(size(), [80, 0, 25, 0]);
        let before = slot.config().generation();
        resizer.resize(WindowSize { columns: 132, rows: 43 });
        while slot.config().generation() == before {
            slot.wait_interrupt(DEADLINE);
        }
        assert_eq!(size(), [132, 0, 43, 0]);
    });
}

#[test]
fn the_driver_of_a_packed_ring_is_asked_for_a_reset_when_its_daemon_has_died() {
    within(DEADLINE, || {
        let ((_folder, path), guest) = (folder(), Guest::new());
        let served = Served::new(&path, Rng::new(HostEntropy));
        let slot = guest.plug(Box::new(FrontEnd::connect(&path, DaemonKind::Rng).unwrap()));
        let mut driver = RawDriver::new(&slot, RINGS[1], &[8]);
        let buffer = Descriptor::writable(guest.buffer(64).0, 64);
        driver.offer(0, &[buffer]);
        driver.wait_used(0, DEADLINE);
        drop(served);
        let _served = Served::new(&path, Rng::new(HostEntropy));
        const STATUS: u32 = 0x70;
        const NEEDS_RESET: u32 = 64;
        while slot.register(STATUS) & NEEDS_RESET == 0 {
            slot.wait_interrupt(Duration::from_secs(20));
        }
        let mut driver = RawDriver::new(&slot, RINGS[1], &[8]);
        driver.offer(0, &[buffer]);
        assert_eq!(driver.wait_used(0, DEADLINE).written, 64);
    });
}
