//! A host that has no ring for us: one that has no more descriptors does as well as one that forbids it.

use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, Warnings, within};
use cubie_virtio_blk::{Blk, FileDisk, Image, ImageOptions};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use virtio_drivers::device::blk::{SECTOR_SIZE, VirtIOBlk};

/// The only test of its process: the limit is for all of it.
#[test]
fn a_disk_without_a_ring_is_served_all_the_same_and_the_log_says_so_once() {
    let warnings = Warnings::listen();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 * SECTOR_SIZE as u64).unwrap();
    let image = Image::open(file.path(), ImageOptions::default()).unwrap();

    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 0, most).unwrap();
    let disks = FileDisk::for_queues(&image, 3);
    setrlimit(Resource::RLIMIT_NOFILE, now, most).unwrap();

    assert!(disks.iter().all(|disk| matches!(disk, FileDisk::Plain(_))), "{disks:?}");
    assert_eq!(warnings.count(), 1);
    within(Duration::from_secs(20), move || {
        let disk = Blk::with_queues(disks, "plain".parse().unwrap()).unwrap();
        let slot = Guest::new().plug(Box::new(disk));
        let mut driver = VirtIOBlk::<GuestHal, _>::new(slot.transport()).unwrap();
        driver.write_blocks(5, &[9; SECTOR_SIZE]).unwrap();
        driver.flush().unwrap();
        let mut bytes = [0; SECTOR_SIZE];
        driver.read_blocks(5, &mut bytes).unwrap();
        assert_eq!(bytes, [9; SECTOR_SIZE]);
    });
}
