//! Disks with several queues.

use cubie_testkit::{RawDriver, within};
use cubie_virtio_blk::{Blk, FileDisk, Image, ImageOptions, MemoryDisk};
use cubie_virtio_core::VirtioDevice;
use virtio_drivers::transport::Transport;

use crate::bench::{Bench, DEADLINE, F_FLUSH, F_MQ, FLUSH, OK};

fn disk(queues: usize) -> Blk<FileDisk> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let image = Image::open(file.path(), ImageOptions::default()).unwrap();
    Blk::with_queues(FileDisk::for_queues(&image, queues), "queues".parse().unwrap()).unwrap()
}

#[test]
fn what_one_queue_has_written_the_others_read() {
    within(DEADLINE, || {
        let disk = disk(4);
        assert!(disk.features().has(F_MQ));
        let mut bench = Bench::new(disk, F_MQ.with(F_FLUSH), 4);
        let mut queues = [0; 2];
        bench.driver.transport().read_bytes(0x100 + 34, &mut queues);
        assert_eq!(u16::from_le_bytes(queues), 4);
        for queue in 0..4 {
            let sector = 10 * queue as u64;
            assert_eq!(bench.write(queue, sector, &[queue as u8 + 1; 1024]), OK);
            assert_eq!(bench.ask_queue(queue, FLUSH, 0, &[]), OK);
            for other in 0..4 {
                let there = bench.read(other, sector, 1024);
                assert_eq!(there, (OK, vec![queue as u8 + 1; 1024]), "{queue} by {other}");
            }
        }
    });
}

#[test]
fn a_driver_may_set_up_some_of_the_queues_or_know_of_one_only() {
    within(DEADLINE, || {
        let mut bench = Bench::new(disk(4), F_MQ, 2);
        assert_eq!(bench.write(1, 5, &[3; 512]), OK);
        bench.driver = RawDriver::new(&bench.slot, F_FLUSH, &[256]);
        assert_eq!(bench.read(0, 5, 512), (OK, vec![3; 512]));
        // One that knows of one queue is not served in another.
        bench.driver = RawDriver::new(&bench.slot, F_FLUSH, &[256, 256]);
        let read = bench.request(0, 5, &[]);
        bench.driver.offer(1, &read);
        assert_eq!(bench.read(0, 5, 512), (OK, vec![3; 512]));
        assert_eq!(bench.driver.used(1), None);
        bench.driver.transport().set_status(virtio_drivers::transport::DeviceStatus::empty());
    });
}

#[test]
fn a_disk_with_one_queue_does_not_speak_of_several_and_none_has_none() {
    assert!(!disk(1).features().has(F_MQ));
    for count in [0, 65] {
        let backends = vec![MemoryDisk::new(vec![0; 512]); count];
        let error = Blk::with_queues(backends, "queues".parse().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a disk has 1 to 64 queues, not {count}: give as many backends")
        );
    }
}
