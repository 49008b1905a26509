//! Requests that were in flight when their daemon came to an end, and that the next one carries out.

use std::os::fd::AsRawFd;
use std::sync::mpsc::channel;

use cubie_virtio_blk::{Blk, MemoryDisk};
use cubie_virtio_core::Features;
use cubie_virtq::driver::Buffer;
use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::VhostUserInflight;
use vm_memory::{Bytes, GuestAddress};

use crate::daemon::Daemon;
use crate::disk::disk;
use crate::dying::Dying;
use crate::guest::{FREE, Guest};
use crate::wire::DEADLINE;

const RINGS: Features = Features::INDIRECT.with(Features::EVENT_IDX);
const SIZE: u16 = 16;

/// Offers a read of sector `n`, and returns where its data and its status come.
fn read(guest: &mut Guest, n: u64) -> (GuestAddress, GuestAddress) {
    let at = FREE + n * 4096;
    let (data, status) = (GuestAddress(at + 512), GuestAddress(at + 16));
    guest.memory.write_obj(0u64, GuestAddress(at)).unwrap();
    guest.memory.write_obj(n, GuestAddress(at + 8)).unwrap();
    guest.memory.write_obj(0xffu8, status).unwrap();
    let buffers =
        [Buffer::readable(at, 16), Buffer::writable(data.0, 512), Buffer::writable(status.0, 1)];
    guest.offer(0, &buffers);
    (data, status)
}

#[test]
fn a_daemons_successor_carries_out_what_was_in_flight_and_nothing_twice() {
    let (got, requests) = channel();
    let disk_of_old = MemoryDisk::new(vec![0xee; 64 * 512]);
    let dying = Dying::new(disk_of_old, got);
    let (first, socket) = Daemon::of(Blk::new(dying, "dying".parse().unwrap()));
    let mut guest = Guest::new(socket, RINGS, &[SIZE]);
    let wanted = VhostUserInflight::new(0, 0, 1, SIZE);
    let (at, notes) = guest.front.get_inflight_fd(&wanted).unwrap();
    guest.front.set_inflight_fd(&at, notes.as_raw_fd()).unwrap();
    guest.start(0);
    let answers: Vec<_> = (1..=4).map(|n| read(&mut guest, n)).collect();
    guest.wait_used(0);
    while requests.recv_timeout(DEADLINE).unwrap() < 4 {}

    let (second, socket) = Daemon::of(disk());
    guest.move_to(socket);
    first.end().unwrap();
    guest.front.set_inflight_fd(&at, notes.as_raw_fd()).unwrap();
    // As front-ends have it that could not ask: as many as were used.
    guest.set_base(0, 1);
    guest.set_up(0);
    guest.start(0);
    for _ in 0..3 {
        assert_eq!(guest.wait_used(0).written, 513);
    }
    assert_eq!(guest.queues[0].driver.free(), SIZE);
    for (n, (data, status)) in (1..).zip(answers) {
        let mut bytes = [0; 512];
        guest.memory.read_slice(&mut bytes, data).unwrap();
        let expected = if n == 2 { 0xee } else { n };
        assert_eq!(bytes, [expected; 512], "sector {n}");
        assert_eq!(guest.memory.read_obj::<u8>(status).unwrap(), 0);
    }
    drop(guest);
    second.end().unwrap();
}

#[test]
fn of_packed_rings_no_notes_are_offered() {
    let (_daemon, socket) = Daemon::of(disk());
    let mut guest = Guest::new(socket, RINGS.with(Features::PACKED), &[SIZE]);
    // Rust-vmm's front-end misses the file.
    let notes = guest.front.get_inflight_fd(&VhostUserInflight::new(0, 0, 1, SIZE));
    assert!(notes.is_err());
    guest.start(0);
    crate::disk::finds(&mut guest, 1, 1);
}
