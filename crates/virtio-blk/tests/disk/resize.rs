//! Disks that become larger and smaller.

use cubie_testkit::within;
use cubie_virtio_blk::MemoryDisk;
use cubie_virtio_core::Features;

use crate::bench::{Bench, DEADLINE, IO_ERROR, OK, device};

#[test]
fn a_driver_learns_of_another_size_and_uses_it() {
    within(DEADLINE, || {
        let disk = device(MemoryDisk::new(vec![7; 64 * 512]));
        let resizer = disk.resizer();
        let mut bench = Bench::new(disk, Features::default(), 1);
        let capacity = |bench: &Bench| {
            let mut sectors = [0; 8];
            bench.slot.config().read(0, &mut sectors);
            u64::from_le_bytes(sectors)
        };
        assert_eq!(bench.read(0, 63, 512), (OK, vec![7; 512]));
        let before = bench.slot.config().generation();
        resizer.resize(64 * 512 + 100);
        assert_eq!(bench.slot.config().generation(), before, "as large as it was, for a driver");

        resizer.resize(32 * 512);
        bench.slot.wait_interrupt(DEADLINE);
        assert_ne!(bench.slot.config().generation(), before);
        assert_eq!(capacity(&bench), 32);
        assert_eq!(bench.read(0, 31, 512).0, OK);
        assert_eq!(bench.read(0, 32, 512).0, IO_ERROR);

        resizer.resize(64 * 512);
        assert_eq!((capacity(&bench), bench.read(0, 63, 512).0), (64, OK));
        // More than its host end has fails where that ends, and nowhere else.
        resizer.resize(128 * 512);
        assert_eq!((capacity(&bench), bench.read(0, 64, 512).0), (128, IO_ERROR));
        assert_eq!(bench.write(0, 63, &[9; 512]), OK);
        assert_eq!(bench.write(0, 63, &[9; 1024]), IO_ERROR);
        assert_eq!(bench.read(0, 63, 512), (OK, vec![9; 512]));
    });
}
