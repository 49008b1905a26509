//! Requests that were in flight when their daemon came to an end.

use std::sync::mpsc::channel;

use cubie_testkit::{Descriptor, Guest, RawDriver, within};
use cubie_vhost_user::{DaemonKind, FrontEnd};
use cubie_virtio_blk::{Blk, MemoryDisk};
use cubie_virtio_core::Features;
use vm_memory::{Bytes, GuestAddress};

use crate::dying::Dying;
use crate::served::{DEADLINE, Served};

/// Offers a read of a sector, and returns where its data come.
fn read(guest: &Guest, driver: &mut RawDriver, sector: u64) -> GuestAddress {
    let (header, data, status) = (guest.buffer(16), guest.buffer(512), guest.buffer(1));
    guest.memory().write_obj(0u64, header).unwrap();
    guest.memory().write_obj(sector, GuestAddress(header.0 + 8)).unwrap();
    let chain = [
        Descriptor::readable(header.0, 16),
        Descriptor::writable(data.0, 512),
        Descriptor::writable(status.0, 1),
    ];
    driver.offer(0, &chain);
    data
}

#[test]
fn the_next_daemon_carries_out_what_was_in_flight_and_nothing_twice() {
    within(DEADLINE, || {
        let (folder, guest) = (tempfile::tempdir().unwrap(), Guest::new());
        let path = folder.path().join("socket");
        let (got, requests) = channel();
        let disk = MemoryDisk::new(vec![0xee; 64 * 512]);
        let dying = Dying::new(disk, got);
        let first = Served::new(&path, Blk::new(dying, "disk".parse().unwrap()));
        let device = FrontEnd::connect(&path, DaemonKind::Block { queues: 1 }).unwrap();
        let slot = guest.plug(Box::new(device));
        let mut driver = RawDriver::new(&slot, Features::EVENT_IDX, &[16]);
        let data: Vec<_> = (1..=4).map(|n| read(&guest, &mut driver, n)).collect();
        driver.wait_used(0, DEADLINE);
        while requests.recv_timeout(DEADLINE).unwrap() < 4 {}
        drop(first);

        let bytes: Vec<u8> = (0..64 * 512).map(|n| (n / 512) as u8).collect();
        let _second = Served::new(&path, Blk::new(MemoryDisk::new(bytes), "disk".parse().unwrap()));
        let mut all = data;
        all.push(read(&guest, &mut driver, 5));
        for _ in 0..4 {
            assert_eq!(driver.wait_used(0, DEADLINE).written, 513);
        }
        for (n, data) in (1..).zip(all) {
            let mut bytes = [0; 512];
            guest.memory().read_slice(&mut bytes, data).unwrap();
            assert_eq!(bytes, [if n == 2 { 0xee } else { n }; 512], "sector {n}");
        }
    });
}
