//! A host whose file system is full. For root, in a namespace of its own; says so and does nothing elsewhere.

use std::fs::File;

use cubie_testkit::within;
use cubie_virtio_blk::{BlockBackend, Image, ImageOptions, RawFile, RingFile};
use cubie_virtio_core::Features;

use crate::bench::{
    Bench, DEADLINE, F_FLUSH, F_WRITE_ZEROES, FLUSH, IO_ERROR, OK, WRITE_ZEROES, device,
};
use crate::tmpfs::tmpfs;

const PIECE: usize = 64 << 10;

/// Writes to a disk that is larger than its file system, until that is full.
fn fill(make: fn(Image) -> Bench) {
    within(DEADLINE, move || {
        let Some(dir) = tmpfs(c"size=1m") else { return };
        let path = dir.path().join("disk");
        File::create(&path).unwrap().set_len(4 << 20).unwrap();
        let mut bench = make(Image::open(&path, ImageOptions::default()).unwrap());
        let sector = |n: usize| (n * PIECE / 512) as u64;
        let statuses: Vec<_> =
            (0..32).map(|n| bench.write(0, sector(n), &[n as u8 + 1; PIECE])).collect();
        let written = statuses.iter().filter(|status| **status == OK).count();
        assert!((8..=16).contains(&written), "{statuses:?}");
        assert!(statuses[written..].iter().all(|status| *status == IO_ERROR), "{statuses:?}");
        assert_eq!(bench.change(WRITE_ZEROES, sector(20), 1 << 12, 0), IO_ERROR);
        // The queue works, and so does what has its place already.
        for n in 0..written {
            assert!(bench.read(0, sector(n), PIECE) == (OK, vec![n as u8 + 1; PIECE]));
        }
        assert_eq!(bench.write(0, 0, &[0xaa; PIECE]), OK);
        assert_eq!(bench.ask(FLUSH, 0, &[]), OK);
        assert_eq!(bench.read(0, sector(40), 512), (OK, vec![0; 512]), "a hole");
    });
}

const FEATURES: Features = F_FLUSH.with(F_WRITE_ZEROES);

fn bench(backend: impl BlockBackend) -> Bench {
    Bench::new(device(backend), FEATURES, 1)
}

#[test]
fn a_full_host_fails_what_has_no_place_and_nothing_else() {
    fill(|image| bench(RawFile::new(image)));
}

#[test]
fn a_full_host_fails_what_has_no_place_and_nothing_else_by_the_ring_too() {
    fill(|image| bench(RingFile::new(image).unwrap()));
}
