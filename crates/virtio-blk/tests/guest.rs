//! The device through the driver of `virtio_drivers`.

use std::fs;
use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, RegisterTransport, Slot, within};
use cubie_virtio_blk::{Blk, MemoryDisk, RawFile, Serial};
use cubie_virtio_core::{Features, VirtioDevice};
use tempfile::NamedTempFile;
use virtio_drivers::Error;
use virtio_drivers::device::blk::{SECTOR_SIZE, VirtIOBlk};

const DEADLINE: Duration = Duration::from_secs(30);

type Driver = VirtIOBlk<GuestHal, RegisterTransport>;

fn serial() -> Serial {
    "a-disk-for-tests".parse().unwrap()
}

/// As many sectors, each filled with the byte given.
fn sectors(fill: &[u8]) -> Vec<u8> {
    fill.iter().flat_map(|byte| [*byte; SECTOR_SIZE]).collect()
}

/// A file whose every sector is filled with its number.
fn numbered(count: u8) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), sectors(&Vec::from_iter(0..count))).unwrap();
    file
}

/// What `test` does with a disk on `file`, in time.
fn with_disk(
    file: NamedTempFile,
    read_only: bool,
    test: impl FnOnce(&NamedTempFile, &mut Driver) + Send + 'static,
) {
    within(DEADLINE, move || {
        let disk = RawFile::open(file.path(), read_only).unwrap();
        let slot = Guest::new().plug(Box::new(Blk::new(disk, serial())));
        test(&file, &mut drive(&slot));
    });
}

fn drive(slot: &Slot) -> Driver {
    VirtIOBlk::new(slot.transport()).unwrap()
}

#[test]
fn a_file_is_read_where_it_was_asked_for() {
    with_disk(numbered(16), false, |_, disk| {
        assert_eq!((disk.capacity(), disk.readonly()), (16, false));
        let mut bytes = [0xee; 3 * SECTOR_SIZE];
        disk.read_blocks(13, &mut bytes).unwrap();
        assert_eq!(bytes.to_vec(), sectors(&[13, 14, 15]));
    });
}

#[test]
fn what_is_written_and_flushed_is_in_the_file_and_nothing_else_has_changed() {
    with_disk(numbered(4), false, |file, disk| {
        disk.write_blocks(1, &[0xaa; 2 * SECTOR_SIZE]).unwrap();
        disk.flush().unwrap();
        assert!(fs::read(file.path()).unwrap() == sectors(&[0, 0xaa, 0xaa, 3]));
    });
}

#[test]
fn the_disk_says_who_it_is() {
    with_disk(numbered(1), false, |_, disk| {
        let mut id = [0xee; 20];
        assert_eq!(disk.device_id(&mut id), Ok(16));
        assert_eq!(&id, b"a-disk-for-tests\0\0\0\0");
    });
}

#[test]
fn a_disk_offers_what_it_can_do_and_nothing_else() {
    // SIZE_MAX, SEG_MAX, BLK_SIZE, FLUSH, TOPOLOGY and CONFIG_WCE; then RO, or DISCARD and WRITE_ZEROES.
    let common = 1 << 1 | 1 << 2 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11;
    for (read_only, features) in [(false, common | 1 << 13 | 1 << 14), (true, common | 1 << 5)] {
        let disk = RawFile::open(numbered(1).path(), read_only).unwrap();
        assert_eq!(Blk::new(disk, serial()).features(), Features(features));
    }
}

#[test]
fn a_read_only_disk_says_so_and_refuses_writes() {
    with_disk(numbered(2), true, |_, disk| {
        assert!(disk.readonly());
        assert_eq!(disk.write_blocks(0, &[0xaa; SECTOR_SIZE]), Err(Error::IoError));
        disk.flush().unwrap();
        let mut bytes = [0xee; SECTOR_SIZE];
        disk.read_blocks(0, &mut bytes).unwrap();
        assert_eq!(bytes, [0; SECTOR_SIZE]);
    });
}

#[test]
fn a_disk_keeps_its_bytes_across_resets_and_another_slot() {
    within(DEADLINE, || {
        let guest = Guest::new();
        let disk = Blk::new(MemoryDisk::new(vec![0; 64 * SECTOR_SIZE]), serial());
        let mut slot = guest.plug(Box::new(disk));
        for round in 0..20 {
            let mut disk = drive(&slot);
            for sector in 0..64 {
                let mut bytes = [0xee; SECTOR_SIZE];
                disk.read_blocks(sector, &mut bytes).unwrap();
                assert_eq!(bytes, [round; SECTOR_SIZE]);
                disk.write_blocks(sector, &[round + 1; SECTOR_SIZE]).unwrap();
            }
            drop(disk);
            let socket = guest.socket();
            let socket = if round % 2 == 0 { socket.trapped() } else { socket };
            slot = socket.plug(slot.unplug());
        }
    });
}

#[test]
fn thousands_of_requests_of_all_sizes_leave_file_and_memory_the_same() {
    with_disk(numbered(255), false, |file, disk| {
        let mut model = fs::read(file.path()).unwrap();
        for n in 0..3000usize {
            let (sector, count) = (n * 37 % 200, 1 + n * 11 % 55);
            let range = sector * SECTOR_SIZE..(sector + count) * SECTOR_SIZE;
            if n % 3 == 0 {
                let bytes: Vec<_> = (0..range.len()).map(|at| (at / 7 + n) as u8).collect();
                disk.write_blocks(sector, &bytes).unwrap();
                model[range].copy_from_slice(&bytes);
            } else {
                let mut bytes = vec![0xee; range.len()];
                disk.read_blocks(sector, &mut bytes).unwrap();
                assert!(bytes == model[range], "request {n}");
            }
        }
        assert!(fs::read(file.path()).unwrap() == model);
    });
}

#[test]
fn a_file_truncated_under_us_fails_what_is_gone_and_nothing_else() {
    with_disk(numbered(16), false, |file, disk| {
        file.as_file().set_len(4 * SECTOR_SIZE as u64 + 100).unwrap();
        let mut bytes = [0xee; 2 * SECTOR_SIZE];
        for gone in [3, 4, 8, 14] {
            assert_eq!(disk.read_blocks(gone, &mut bytes), Err(Error::IoError), "sector {gone}");
        }
        disk.read_blocks(2, &mut bytes).unwrap();
        assert_eq!(bytes.to_vec(), sectors(&[2, 3]));
        disk.write_blocks(8, &[0xaa; SECTOR_SIZE]).unwrap();
        disk.read_blocks(7, &mut bytes).unwrap();
        assert_eq!(bytes.to_vec(), sectors(&[0, 0xaa]));
    });
}

#[test]
fn the_last_bytes_of_a_file_are_left_alone() {
    let file = numbered(2);
    file.as_file().set_len(3 * SECTOR_SIZE as u64 - 1).unwrap();
    with_disk(file, false, |file, disk| {
        assert_eq!(disk.capacity(), 2);
        assert_eq!(disk.write_blocks(2, &[1; SECTOR_SIZE]), Err(Error::IoError));
        assert_eq!(fs::metadata(file.path()).unwrap().len(), 3 * SECTOR_SIZE as u64 - 1);
    });
}
