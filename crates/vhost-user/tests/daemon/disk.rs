//! A disk: its ring is stopped, moved and goes on, over memory that comes and goes.

use cubie_virtio_blk::{Blk, MemoryDisk};
use cubie_virtio_core::Features;
use cubie_virtq::driver::Buffer;
use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;
use vm_memory::{Bytes, GuestAddress, GuestMemoryRegion};

use crate::daemon::Daemon;
use crate::guest::{FREE, Guest, is_written, shared, shown, wait_for};

const SECTORS: usize = 64;

pub(crate) fn disk() -> Blk<MemoryDisk> {
    let bytes: Vec<u8> = (0..SECTORS * 512).map(|n| (n / 512) as u8).collect();
    Blk::new(MemoryDisk::new(bytes), "behind-a-socket".parse().unwrap())
}

/// Each kind of ring.
const RINGS: [Features; 2] = [
    Features::INDIRECT.with(Features::EVENT_IDX),
    Features::INDIRECT.with(Features::EVENT_IDX).with(Features::PACKED),
];

/// Where a request's header, data and status lie.
const HEADER: u64 = FREE;
const STATUS: u64 = FREE + 16;
pub(crate) const DATA: u64 = FREE + 512;

/// A request for one sector, with its data at `data`.
pub(crate) fn request(guest: &Guest, write: bool, sector: u64, data: u64) -> [Buffer; 3] {
    let memory = &guest.memory;
    memory.write_obj(u32::from(write), GuestAddress(HEADER)).unwrap();
    memory.write_obj(sector, GuestAddress(HEADER + 8)).unwrap();
    memory.write_obj(0xffu8, GuestAddress(STATUS)).unwrap();
    let data = Buffer { address: data, len: 512, writable: !write };
    [Buffer::readable(HEADER, 16), data, Buffer::writable(STATUS, 1)]
}

fn status(guest: &Guest) -> u8 {
    guest.memory.read_obj(GuestAddress(STATUS)).unwrap()
}

/// Reads a sector and finds `byte` in all of it.
pub(crate) fn finds(guest: &mut Guest, sector: u64, byte: u8) {
    let buffers = request(guest, false, sector, DATA);
    assert_eq!(guest.exchange(0, &buffers).written, 513);
    assert_eq!(status(guest), 0);
    let mut bytes = [0; 512];
    guest.memory.read_slice(&mut bytes, GuestAddress(DATA)).unwrap();
    assert_eq!(bytes, [byte; 512], "sector {sector}");
}

fn writes(guest: &mut Guest, sector: u64, byte: u8) {
    guest.memory.write_slice(&[byte; 512], GuestAddress(DATA)).unwrap();
    let buffers = request(guest, true, sector, DATA);
    assert_eq!(guest.exchange(0, &buffers).written, 1);
    assert_eq!(status(guest), 0);
}

#[test]
fn a_disk_is_read_and_written_through_either_ring() {
    for features in RINGS {
        let (daemon, socket) = Daemon::of(disk());
        let mut guest = Guest::new(socket, features, &[16]);
        guest.start(0);
        for round in 0..3 {
            for sector in 0..SECTORS as u64 {
                finds(&mut guest, sector, sector as u8 ^ round);
                writes(&mut guest, sector, sector as u8 ^ (round + 1));
            }
        }
        drop(guest);
        daemon.end().unwrap();
    }
}

#[test]
fn a_ring_goes_on_where_it_was_stopped_also_at_another_daemon() {
    for features in RINGS {
        let (first, socket) = Daemon::of(disk());
        let mut guest = Guest::new(socket, features, &[4]);
        guest.start(0);
        (0..7).for_each(|sector| finds(&mut guest, sector, sector as u8));
        let base = guest.front.get_vring_base(0).unwrap();
        // Of four entries: seven chains of three descriptors each in a packed ring, five laps and one.
        let packed = features.has(Features::PACKED);
        assert_eq!(base, if packed { 0x0001_0001 } else { 7 });

        // Nobody serves it.
        let buffers = request(&guest, false, 7, DATA);
        guest.offer(0, &buffers);
        guest.queues[0].kick.write(1).unwrap();
        guest.front.get_features().unwrap();
        assert_eq!(guest.queues[0].driver.pop_used(), None);

        // What was offered meanwhile is served when it starts again.
        guest.set_base(0, base);
        guest.start(0);
        assert_eq!(guest.wait_used(0).written, 513);
        finds(&mut guest, 8, 8);

        // The same guest, with another daemon.
        let base = guest.front.get_vring_base(0).unwrap();
        let (second, socket) = Daemon::of(disk());
        guest.move_to(socket);
        first.end().unwrap();
        guest.set_base(0, base);
        guest.set_up(0);
        guest.start(0);
        (9..20).for_each(|sector| finds(&mut guest, sector, sector as u8));
        drop(guest);
        second.end().unwrap();
    }
}

#[test]
fn memory_is_added_and_removed_while_a_ring_is_served() {
    const ADDED: u64 = 0x4000_0000;
    for features in RINGS {
        let (_daemon, socket) = Daemon::of(disk());
        let mut guest = Guest::new(socket, features, &[16]);
        assert_eq!(guest.front.get_max_mem_slots().unwrap(), 509);
        guest.start(0);
        finds(&mut guest, 1, 1);
        let region = shared(ADDED, 0x2000);
        guest.front.add_mem_region(&shown(&region)).unwrap();
        let buffers = request(&guest, false, 9, ADDED + 0x1000);
        assert_eq!(guest.exchange(0, &buffers).written, 513);
        let mut bytes = [0; 512];
        region.read_slice(&mut bytes, vm_memory::MemoryRegionAddress(0x1000)).unwrap();
        assert_eq!(bytes, [9; 512], "{:?}", region.start_addr());
        finds(&mut guest, 2, 2);

        guest.front.remove_mem_region(&shown(&region)).unwrap();
        finds(&mut guest, 3, 3);
        assert!(!is_written(&guest.queues[0].error, std::time::Duration::ZERO));
        // A driver that does not know: the buffer is in no memory any more.
        let buffers = request(&guest, false, 9, ADDED + 0x1000);
        guest.offer(0, &buffers);
        wait_for(&guest.queues[0].error);
        // It stays broken, whatever else changes, until it is started anew.
        guest.front.add_mem_region(&shown(&region)).unwrap();
        guest.queues[0].kick.write(1).unwrap();
        guest.front.get_features().unwrap();
        assert_eq!(guest.queues[0].driver.pop_used(), None);
        let base = guest.front.get_vring_base(0).unwrap();
        guest.set_base(0, base);
        guest.start(0);
        assert_eq!(guest.wait_used(0).written, 513);
    }
}

#[test]
fn a_reset_begins_anew() {
    for features in RINGS {
        let (_daemon, socket) = Daemon::of(disk());
        let mut guest = Guest::new(socket, features, &[16]);
        guest.start(0);
        finds(&mut guest, 5, 5);
        guest.front.reset_device().unwrap();
        guest.renew(0);
        guest.start(0);
        finds(&mut guest, 6, 6);
    }
}

#[test]
fn a_ring_that_cannot_be_breaks_alone() {
    let (_daemon, socket) = Daemon::of(disk());
    let mut guest = Guest::new(socket, RINGS[0], &[16]);
    // No power of two.
    guest.front.set_vring_num(0, 12).unwrap();
    guest.start(0);
    wait_for(&guest.queues[0].error);
    guest.front.get_vring_base(0).unwrap();
    guest.front.set_vring_num(0, 16).unwrap();
    guest.start(0);
    finds(&mut guest, 1, 1);
}
