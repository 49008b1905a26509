//! A session of the driver of `virtio_drivers` from another day. `CUBIE_RECORD=1` records it anew.

use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, Recording, within};
use cubie_virtio_blk::{Blk, MemoryDisk, Serial};
use virtio_drivers::device::blk::{SECTOR_SIZE, VirtIOBlk};

const DEADLINE: Duration = Duration::from_secs(60);

fn disk(fill: u8) -> Box<Blk<MemoryDisk>> {
    let serial = "a-disk-for-tests".parse::<Serial>().unwrap();
    Box::new(Blk::new(MemoryDisk::new(vec![fill; 8 * SECTOR_SIZE]), serial))
}

/// Reads, writes, flushes, asks for the disk's name and for what lies beyond its end.
fn session() -> Recording {
    let slot = Guest::new().socket().recorded().plug(disk(7));
    let mut driver = VirtIOBlk::<GuestHal, _>::new(slot.transport()).unwrap();
    let mut bytes = [0; SECTOR_SIZE];
    driver.read_blocks(3, &mut bytes).unwrap();
    slot.wait_interrupt(DEADLINE);
    driver.write_blocks(5, &[9; SECTOR_SIZE]).unwrap();
    driver.flush().unwrap();
    driver.read_blocks(5, &mut bytes).unwrap();
    assert_eq!(bytes, [9; SECTOR_SIZE]);
    driver.device_id(&mut [0; 20]).unwrap();
    driver.read_blocks(8, &mut bytes).unwrap_err();
    drop(driver);
    slot.recording()
}

#[test]
fn a_session_of_another_day_is_answered_as_it_was() {
    within(DEADLINE, || {
        let played = session().keep("tests/disk.session").unwrap().play(disk(7)).unwrap();
        assert_eq!(played.chains, 6);
    });
}

#[test]
fn a_disk_with_other_bytes_is_told_apart() {
    within(DEADLINE, || {
        let difference = session().play(disk(8)).unwrap_err();
        assert!(difference.now().ends_with("byte 0 is 08, and was 07"), "{difference}");
    });
}
