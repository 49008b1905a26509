//! Discards and writes of zeros.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use cubie_testkit::{Descriptor, within};
use cubie_virtio_blk::{
    BlockBackend, FileDisk, Image, ImageOptions, MemoryDisk, NullDisk, RawFile, RingFile,
};
use cubie_virtio_core::{Features, VirtioDevice};

use crate::bench::{
    Bench, DEADLINE, DISCARD, F_DISCARD, F_WRITE_ZEROES, IO_ERROR, OK, UNSUPPORTED, WRITE_ZEROES,
    device,
};

const BOTH: Features = F_DISCARD.with(F_WRITE_ZEROES);
const SECTORS: u64 = 1 << 17;
const UNMAP: u32 = 1;

fn memory(fill: u8) -> Bench {
    Bench::new(device(MemoryDisk::new(vec![fill; SECTORS as usize * 512])), BOTH, 1)
}

#[test]
fn sectors_are_zero_after_zeros_were_written_and_those_beside_them_are_not() {
    within(DEADLINE, || {
        let mut bench = memory(7);
        for flags in [0, UNMAP] {
            let first = 10 + u64::from(flags) * 10;
            assert_eq!(bench.change(WRITE_ZEROES, first, 3, flags), OK);
            let (status, bytes) = bench.read(0, first - 1, 5 * 512);
            assert_eq!(status, OK);
            let sectors: Vec<_> = bytes.chunks(512).collect();
            assert_eq!(sectors, [[7; 512], [0; 512], [0; 512], [0; 512], [7; 512]]);
        }
        assert_eq!(bench.change(DISCARD, 0, 8, 0), OK);
    });
}

#[test]
fn ranges_with_flags_that_they_cannot_have_are_unsupported() {
    within(DEADLINE, || {
        let mut bench = memory(7);
        for flags in [2, 3, 1 << 31] {
            assert_eq!(bench.change(DISCARD, 0, 1, flags), UNSUPPORTED, "{flags:#x}");
            assert_eq!(bench.change(WRITE_ZEROES, 0, 1, flags), UNSUPPORTED, "{flags:#x}");
        }
        assert_eq!(bench.change(DISCARD, 0, 1, UNMAP), UNSUPPORTED);
        assert_eq!(bench.read(0, 0, 512), (OK, vec![7; 512]), "and nothing was done");
    });
}

#[test]
fn ranges_that_are_not_on_the_disk_too_long_or_not_one_are_errors() {
    within(DEADLINE, || {
        let mut bench = memory(7);
        for kind in [DISCARD, WRITE_ZEROES] {
            for (sector, sectors) in [
                (SECTORS, 1),
                (SECTORS - 1, 2),
                (0, u32::MAX),
                (u64::MAX, 1),
                (u64::MAX / 512, u32::MAX),
            ] {
                let status = bench.change(kind, sector, sectors, 0);
                assert_eq!(status, IO_ERROR, "{kind}: {sectors} from {sector:#x}");
            }
            for len in [0, 15, 17, 32] {
                assert_eq!(bench.change_with(kind, &vec![0; len]), IO_ERROR, "{len} bytes");
            }
            let range = bench.guest.buffer(1024).0;
            let (data, room) = (Descriptor::readable(range, 16), Descriptor::writable(range, 512));
            assert_eq!(bench.ask(kind, 0, &[data, room]), IO_ERROR, "payload on both sides");
            assert_eq!(bench.change(kind, 5, 0, 0), OK, "no sectors are nothing to do");
            assert_eq!(bench.change(kind, SECTORS, 0, 0), OK);
            assert_eq!(bench.change(kind, SECTORS + 1, 0, 0), IO_ERROR);
        }
        assert_eq!(bench.change(WRITE_ZEROES, 0, 1 << 16, 0), OK, "as many as the limit says");
        assert_eq!(bench.change(WRITE_ZEROES, 0, (1 << 16) + 1, 0), IO_ERROR);
    });
}

#[test]
fn what_was_not_negotiated_is_unsupported_and_a_null_disk_does_it_all() {
    within(DEADLINE, || {
        let mut bench = Bench::new(device(NullDisk::new(1 << 20)), F_DISCARD, 1);
        assert_eq!(bench.change(DISCARD, 0, 1, 0), OK);
        assert_eq!(bench.change(WRITE_ZEROES, 0, 1, 0), UNSUPPORTED);
        assert_eq!(bench.write(0, 3, &[7; 512]), OK);
        assert_eq!(bench.read(0, 3, 9000 / 512 * 512), (OK, vec![0; 9000 / 512 * 512]));
    });
}

/// A file without holes, of 1 MiB.
fn full_file() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("disk");
    std::fs::write(&path, vec![7; 1 << 20]).unwrap();
    (dir, path)
}

fn sparse(make: fn(Image) -> Box<dyn BlockBackendHere>) {
    within(DEADLINE, move || {
        let (_dir, path) = full_file();
        let blocks = || File::open(&path).unwrap().metadata().unwrap().blocks();
        let image = Image::open(&path, ImageOptions::default()).unwrap();
        let mut bench = make(image).bench();
        let full = blocks();
        assert_eq!(bench.change(DISCARD, 0, 512, 0), OK);
        let after_discard = blocks();
        assert!(after_discard <= full - 512, "{after_discard} blocks of {full}");
        assert_eq!(bench.change(WRITE_ZEROES, 1024, 512, UNMAP), OK);
        assert!(blocks() <= after_discard - 512, "{} blocks of {after_discard}", blocks());
        assert!(bench.read(0, 1024, 512 * 512) == (OK, vec![0; 512 * 512]));
        let before = blocks();
        assert_eq!(bench.change(WRITE_ZEROES, 1600, 100, 0), OK);
        assert_eq!(blocks(), before, "without unmap the place is kept");
        let (_, bytes) = bench.read(0, 1599, 102 * 512);
        assert!(bytes == [vec![7; 512], vec![0; 100 * 512], vec![7; 512]].concat());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20, "the size is kept");
    });
}

/// A backend of any type, as the one thing that is made of it here.
trait BlockBackendHere {
    fn bench(self: Box<Self>) -> Bench;
}

impl<B: BlockBackend> BlockBackendHere for B {
    fn bench(self: Box<Self>) -> Bench {
        Bench::new(device(*self), BOTH, 1)
    }
}

#[test]
fn a_file_gets_holes_and_keeps_its_size() {
    sparse(|image| Box::new(RawFile::new(image)));
}

#[test]
fn a_file_gets_holes_by_the_ring_too() {
    sparse(|image| Box::new(RingFile::new(image).unwrap()));
}

#[test]
fn a_disk_that_is_read_only_offers_no_change_and_makes_none() {
    let (_dir, path) = full_file();
    let options = ImageOptions { read_only: true, ..ImageOptions::default() };
    let disk = device(FileDisk::new(Image::open(path, options).unwrap()));
    assert!(!disk.features().has(F_DISCARD) && !disk.features().has(F_WRITE_ZEROES));
    let mut bench = Bench::new(disk, Features::default(), 1);
    assert_eq!(bench.change(DISCARD, 0, 1, 0), UNSUPPORTED);
    assert_eq!(bench.change(WRITE_ZEROES, 0, 1, 0), UNSUPPORTED);
    assert_eq!(bench.read(0, 0, 512), (OK, vec![7; 512]));
}
