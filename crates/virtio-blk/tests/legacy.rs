//! The disk behind the legacy interface, through the driver of `virtio_drivers`.

use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, within};
use cubie_virtio_blk::{Blk, MemoryDisk, Serial};
use virtio_drivers::device::blk::{SECTOR_SIZE, VirtIOBlk};

#[test]
fn a_legacy_driver_reads_what_it_wrote_and_another_one_after_it() {
    within(Duration::from_secs(20), || {
        let disk = MemoryDisk::new(vec![7; 8 * SECTOR_SIZE]);
        let slot = Guest::new()
            .socket()
            .legacy()
            .plug(Box::new(Blk::new(disk, "a-disk".parse::<Serial>().unwrap())));
        for found in [7, 9] {
            let mut driver = VirtIOBlk::<GuestHal, _>::new(slot.transport()).unwrap();
            assert_eq!(driver.capacity(), 8);
            let mut sectors = [0; 2 * SECTOR_SIZE];
            driver.read_blocks(6, &mut sectors).unwrap();
            assert_eq!(sectors, [found; 2 * SECTOR_SIZE]);
            driver.write_blocks(6, &[9; 2 * SECTOR_SIZE]).unwrap();
            driver.flush().unwrap();
        }
    });
}
