//! A cache whose mode the driver chooses.

use std::sync::{Arc, Mutex};

use cubie_testkit::{RawDriver, within};
use cubie_virtio_blk::{Blk, BlockBackend, Completion, MemoryDisk, Operation, Request};
use cubie_virtio_core::Features;

use crate::bench::{Bench, DEADLINE, F_CONFIG_WCE, F_FLUSH, F_WRITE_ZEROES, OK, WRITE_ZEROES};

/// Of the configuration space in the registers, and of `writeback` in it (VIRTIO 1.4 §5.2.4).
const WRITEBACK: u64 = 0x100 + 32;

/// Remembers which changes had to go through.
struct Noting {
    disk: MemoryDisk,
    through: Arc<Mutex<Vec<bool>>>,
}

impl BlockBackend for Noting {
    fn size(&self) -> u64 {
        self.disk.size()
    }
    fn can_write_zeroes(&self) -> bool {
        true
    }
    fn submit(&mut self, request: Request) -> Option<Completion> {
        match request.operation() {
            Operation::Write { through, .. } | Operation::WriteZeroes { through, .. } => {
                self.through.lock().unwrap().push(through);
            }
            _ => {}
        }
        self.disk.submit(request)
    }
}

struct Cached {
    bench: Bench,
    through: Arc<Mutex<Vec<bool>>>,
}

impl Cached {
    fn new(writeback: bool, features: Features) -> Self {
        let through = Arc::<Mutex<Vec<bool>>>::default();
        let disk = Noting { disk: MemoryDisk::new(vec![0; 8192]), through: through.clone() };
        let disk = Blk::new(disk, "cached".parse().unwrap()).with_writeback(writeback);
        Self { bench: Bench::new(disk, features, 1), through }
    }

    fn mode(&mut self) -> u8 {
        let mut mode = [0];
        self.bench.driver.transport().read_bytes(WRITEBACK, &mut mode);
        mode[0]
    }

    fn switch(&mut self, mode: u8) {
        self.bench.driver.transport().write_bytes(WRITEBACK, &[mode]);
    }

    /// Whether a write, and zeros, go through now.
    #[track_caller]
    fn goes_through(&mut self) -> bool {
        assert_eq!(self.bench.write(0, 1, &[7; 512]), OK);
        assert_eq!(self.bench.change(WRITE_ZEROES, 2, 1, 0), OK);
        let through = std::mem::take(&mut *self.through.lock().unwrap());
        assert_eq!(through.len(), 2);
        assert_eq!(through[0], through[1], "zeros are written as all else");
        through[0]
    }
}

const ALL: Features = F_FLUSH.with(F_CONFIG_WCE).with(F_WRITE_ZEROES);

#[test]
fn the_driver_switches_between_writeback_and_write_through() {
    within(DEADLINE, || {
        let mut disk = Cached::new(true, ALL);
        assert_eq!((disk.mode(), disk.goes_through()), (1, false));
        disk.switch(0);
        assert_eq!((disk.mode(), disk.goes_through()), (0, true));
        disk.switch(1);
        assert_eq!((disk.mode(), disk.goes_through()), (1, false));
        // Other fields are not the driver's.
        let config = disk.bench.slot.config().clone();
        let mut before = [0; 60];
        config.read(0, &mut before);
        disk.bench.driver.transport().write_bytes(0x100, &[0xff; 8]);
        disk.bench.driver.transport().write_bytes(WRITEBACK + 1, &[0xff; 4]);
        let mut after = [0; 60];
        config.read(0, &mut after);
        assert_eq!(after, before);
    });
}

#[test]
fn the_driver_s_choice_lasts_and_the_next_one_finds_it() {
    within(DEADLINE, || {
        let mut disk = Cached::new(true, ALL);
        disk.switch(0);
        disk.bench.driver = RawDriver::new(&disk.bench.slot, ALL, &[256]);
        assert_eq!((disk.mode(), disk.goes_through()), (0, true));
    });
}

#[test]
fn a_disk_may_begin_as_write_through_for_any_driver() {
    for features in [ALL, F_FLUSH.with(F_WRITE_ZEROES)] {
        within(DEADLINE, move || {
            let mut disk = Cached::new(false, features);
            assert_eq!((disk.mode(), disk.goes_through()), (0, true));
        });
    }
}

#[test]
fn a_driver_that_switches_and_does_not_flush_begins_without_a_cache() {
    within(DEADLINE, || {
        let mut disk = Cached::new(true, F_CONFIG_WCE.with(F_WRITE_ZEROES));
        assert_eq!((disk.mode(), disk.goes_through()), (0, true));
    });
}
