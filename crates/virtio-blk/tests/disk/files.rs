//! Files as disks, through each of the backends, with and without the page cache.

use std::collections::HashMap;
use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use cubie_testkit::{Descriptor, Guest, RawDriver, within};
use cubie_virtio_blk::{Blk, BlockBackend, FileDisk, Image, ImageOptions, RawFile, RingFile};
use cubie_virtio_core::Features;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tempfile::TempDir;
use virtio_drivers::transport::{DeviceStatus, Transport};
use vm_memory::{Address, Bytes, GuestAddress};

use crate::bench::{Bench, DEADLINE, F_FLUSH, FLUSH, IO_ERROR, OK, READ, WRITE, device};

const SECTORS: usize = 2048;

/// An image on the disk that the tests are built on, every sector filled with its number.
struct Numbered {
    _dir: TempDir,
    path: PathBuf,
}

impl Numbered {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = dir.path().join("disk");
        std::fs::write(&path, model()).unwrap();
        Self { _dir: dir, path }
    }

    fn image(&self, direct: bool) -> Image {
        Image::open(&self.path, ImageOptions { direct, ..ImageOptions::default() }).unwrap()
    }

    /// Whether the page at `offset` is in the page cache.
    fn is_cached(&self, offset: u64) -> bool {
        let file = File::open(&self.path).unwrap();
        let mut byte = [0];
        let read = preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT);
        match read {
            Ok(1) => true,
            Err(Errno::AGAIN) => false,
            other => panic!("{other:?}"),
        }
    }

    /// Takes it out of the page cache.
    fn cool(&self) {
        let file = File::open(&self.path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

fn model() -> Vec<u8> {
    (0..SECTORS).flat_map(|sector| [(sector % 251) as u8; 512]).collect()
}

/// Requests for pieces of the disk that do not overlap, many in flight.
struct Crowd {
    guest: Guest,
    driver: RawDriver,
    /// What comes back as which chain.
    asked: HashMap<u32, Asked>,
    model: Vec<u8>,
}

struct Asked {
    kind: u32,
    sector: usize,
    len: usize,
    page: GuestAddress,
    at: GuestAddress,
}

impl Crowd {
    fn new(backend: impl BlockBackend, features: Features) -> Self {
        let guest = Guest::new();
        let slot = guest.plug(Box::new(Blk::new(backend, "crowd".parse().unwrap())));
        let driver = RawDriver::new(&slot, features, &[256]);
        Self { guest, driver, asked: HashMap::new(), model: model() }
    }

    /// Payload in two pieces, `skew` bytes behind a page's beginning.
    fn offer(&mut self, kind: u32, sector: usize, len: usize, place: GuestAddress, skew: u64) {
        let memory = self.guest.memory();
        let (page, at) = (place, place.unchecked_add(4096 + skew));
        memory.write_obj(u64::from(kind), page).unwrap();
        memory.write_obj(sector as u64, page.unchecked_add(8)).unwrap();
        memory.write_obj(0xeeu8, page.unchecked_add(16)).unwrap();
        let half = len as u32 / 2;
        let mut payload =
            [Descriptor::readable(at.0, half), Descriptor::readable(at.0 + u64::from(half), half)];
        if kind == WRITE {
            let bytes: Vec<_> =
                (0..len).map(|n| (n / 3 + sector + self.asked.len()) as u8).collect();
            memory.write_slice(&bytes, at).unwrap();
            let start = sector * 512;
            self.model[start..start + len].copy_from_slice(&bytes);
        } else {
            payload = payload.map(|piece| Descriptor { writable: true, ..piece });
        }
        let (header, status) =
            (Descriptor::readable(page.0, 16), Descriptor::writable(page.0 + 16, 1));
        let head = self.driver.add(0, &[&[header][..], &payload, &[status]].concat());
        self.asked.insert(head.into(), Asked { kind, sector, len, page, at });
    }

    fn collect(&mut self, wait: bool) {
        while !self.asked.is_empty() {
            let used = match wait {
                true => self.driver.wait_used(0, DEADLINE),
                false => match self.driver.used(0) {
                    Some(used) => used,
                    None => return,
                },
            };
            let asked = self.asked.remove(&used.head).expect("it comes back once");
            self.check(&asked, used.written);
        }
    }

    fn check(&self, asked: &Asked, written: u32) {
        let memory = self.guest.memory();
        assert_eq!(memory.read_obj::<u8>(asked.page.unchecked_add(16)).unwrap(), OK);
        if asked.kind == READ {
            assert_eq!(written as usize, asked.len + 1);
            let mut bytes = vec![0; asked.len];
            memory.read_slice(&mut bytes, asked.at).unwrap();
            let start = asked.sector * 512;
            assert!(bytes == self.model[start..start + asked.len], "sector {}", asked.sector);
        }
    }
}

/// Rounds of reads and writes of several sizes and alignments, with the page cache cold or warm. At the end the
/// file is what a model says.
fn crowded(make: fn(Image) -> Box<dyn Crowds>, direct: bool) {
    for features in [F_FLUSH, Features::default()] {
        within(DEADLINE, move || {
            let file = Numbered::new();
            let mut crowd = make(file.image(direct)).crowd(features);
            let places: Vec<_> = (0..32).map(|_| crowd.guest.buffer(64 << 10)).collect();
            for round in 0..24 {
                if round % 3 == 0 {
                    file.cool();
                }
                for (n, place) in places.iter().enumerate() {
                    let sector = n * 64 + (round % 2) * 3 * (n % 2);
                    let len = [4096, 1024, 8192, 24 << 10][(n + round) % 4];
                    let skew = [0, 512, 0, 4, 1][(n * 7 + round) % 5];
                    let kind = if (n + round) % 3 == 0 { WRITE } else { READ };
                    crowd.offer(kind, sector, len, *place, skew);
                }
                crowd.driver.kick(0);
                crowd.collect(true);
            }
            assert!(std::fs::read(&file.path).unwrap() == crowd.model);
        });
    }
}

trait Crowds {
    fn crowd(self: Box<Self>, features: Features) -> Crowd;
}

impl<B: BlockBackend> Crowds for B {
    fn crowd(self: Box<Self>, features: Features) -> Crowd {
        Crowd::new(*self, features)
    }
}

#[test]
fn a_crowd_of_requests_leaves_file_and_model_the_same() {
    crowded(|image| Box::new(RawFile::new(image)), false);
}

#[test]
fn a_crowd_of_requests_leaves_file_and_model_the_same_past_the_page_cache() {
    crowded(|image| Box::new(RawFile::new(image)), true);
}

#[test]
fn a_crowd_of_requests_leaves_file_and_model_the_same_by_the_ring() {
    crowded(|image| Box::new(RingFile::new(image).unwrap()), false);
}

#[test]
fn a_crowd_of_requests_leaves_file_and_model_the_same_by_the_ring_past_the_page_cache() {
    crowded(|image| Box::new(RingFile::new(image).unwrap()), true);
}

#[test]
fn neighbours_of_which_only_one_is_aligned_do_not_get_in_each_others_way() {
    within(DEADLINE, || {
        let file = Numbered::new();
        let mut crowd = Crowd::new(RingFile::new(file.image(true)).unwrap(), F_FLUSH);
        let places: Vec<_> = (0..64).map(|_| crowd.guest.buffer(64 << 10)).collect();
        for round in 0..40 {
            // Two sectors each, four in a page.
            for (n, place) in places.iter().enumerate() {
                let skew = [0, 4, 1, 0][(n + round) % 4];
                crowd.offer(WRITE, n * 2, 1024, *place, skew);
            }
            crowd.driver.kick(0);
            crowd.collect(true);
            // Fails when the page cache had something to say to it.
            file.cool();
        }
        assert!(std::fs::read(&file.path).unwrap() == crowd.model);
    });
}

#[test]
fn an_image_is_free_as_soon_as_its_disk_is_gone() {
    let file = Numbered::new();
    for direct in [false, true] {
        for _ in 0..20 {
            let disk = RingFile::new(file.image(direct)).unwrap();
            drop(disk);
        }
    }
}

/// Reads that were in flight when the device was reset, and have come back.
fn reset_under_load(image: Image) -> usize {
    within(DEADLINE, move || {
        let mut crowd = Crowd::new(RingFile::new(image).unwrap(), F_FLUSH);
        for n in 0..32 {
            let place = crowd.guest.buffer(64 << 10);
            crowd.offer(READ, n * 64, 32 << 10, place, 0);
        }
        crowd.driver.kick(0);
        let first = crowd.driver.wait_used(0, DEADLINE);
        let asked = crowd.asked.remove(&first.head).unwrap();
        crowd.check(&asked, first.written);
        crowd.driver.transport().set_status(DeviceStatus::empty());
        // All that was taken has come back, whoever had it, and without an error.
        let before = crowd.asked.len();
        crowd.collect(false);
        before - crowd.asked.len()
    })
}

#[test]
fn what_the_ring_has_in_flight_is_answered_before_a_reset_ends() {
    let file = Numbered::new();
    let image = file.image(true);
    let answered: usize = (0..20).map(|_| reset_under_load(image.clone())).sum();
    assert!(answered > 20, "something was in flight: {answered}");
}

#[test]
fn direct_requests_pass_by_the_page_cache_and_misaligned_ones_go_through_it() {
    for ring in [false, true] {
        within(DEADLINE, move || {
            let file = Numbered::new();
            let image = file.image(true);
            let mut bench = if ring {
                Bench::new(device(RingFile::new(image).unwrap()), F_FLUSH, 1)
            } else {
                Bench::new(device(RawFile::new(image)), F_FLUSH, 1)
            };
            let offset = 64 << 10;
            let passes = |bench: &mut Bench| {
                file.cool();
                assert_eq!(bench.write(0, 128, &[0xaa; 4096]), OK);
                assert!(bench.read(0, 128, 4096) == (OK, vec![0xaa; 4096]));
                !file.is_cached(offset)
            };
            // Asking may itself bring it there in time.
            assert!((0..20).any(|_| passes(&mut bench)), "ring: {ring}");
            let skewed = bench.guest.buffer(8192).0 + 1;
            assert_eq!(bench.ask(READ, 128, &[Descriptor::writable(skewed, 512)]), OK);
            assert!(file.is_cached(offset), "ring: {ring}");
            assert_eq!(bench.guest.memory().read_obj::<u8>(GuestAddress(skewed)).unwrap(), 0xaa);
            // Both ways see the same bytes.
            assert_eq!(bench.ask(WRITE, 129, &[Descriptor::readable(skewed, 512)]), OK);
            assert_eq!(bench.ask(FLUSH, 0, &[]), OK);
            let mut byte = [0];
            File::open(&file.path).unwrap().read_exact_at(&mut byte, offset + 1023).unwrap();
            assert_eq!(bench.read(0, 128, 4096).0, OK);
            assert_eq!(byte, [0xaa]);
        });
    }
}

#[test]
fn a_file_truncated_under_the_ring_fails_what_is_gone_and_nothing_else() {
    for direct in [false, true] {
        within(DEADLINE, move || {
            let file = Numbered::new();
            let ring = RingFile::new(file.image(direct)).unwrap();
            let mut bench = Bench::new(device(ring), F_FLUSH, 1);
            let host = File::options().write(true).open(&file.path).unwrap();
            host.set_len(16 * 512).unwrap();
            for gone in [8, 16, 1000] {
                assert_eq!(bench.read(0, gone, 8192).0, IO_ERROR, "sector {gone}");
            }
            assert_eq!(bench.read(0, 8, 4096).0, OK);
            assert_eq!(bench.write(0, 32, &[0xaa; 4096]), OK);
            assert!(bench.read(0, 24, 8192) == (OK, [[0; 4096], [0xaa; 4096]].concat()));
        });
    }
}

#[test]
fn where_the_host_has_a_ring_it_is_used() {
    let file = Numbered::new();
    let image = file.image(false);
    let disks = FileDisk::for_queues(&image, 3);
    assert_eq!(disks.len(), 3);
    assert!(disks.iter().all(|disk| matches!(disk, FileDisk::Ring(_))), "{disks:?}");
    assert!(FileDisk::for_queues(&image, 0).is_empty());
}
