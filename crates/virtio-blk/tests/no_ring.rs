//! A host that has no ring for us: one that has no more descriptors does as well as one that forbids it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, within};
use cubie_virtio_blk::{Blk, FileDisk, Image, ImageOptions};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{Event, Level, Metadata, Subscriber, span};
use virtio_drivers::device::blk::{SECTOR_SIZE, VirtIOBlk};

static WARNINGS: AtomicUsize = AtomicUsize::new(0);

/// Counts warnings, of any thread.
struct Counter;

impl Subscriber for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {
        WARNINGS.fetch_add(1, Ordering::SeqCst);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The only test of its process: the limit is for all of it.
#[test]
fn a_disk_without_a_ring_is_served_all_the_same_and_the_log_says_so_once() {
    tracing::subscriber::set_global_default(Counter).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 * SECTOR_SIZE as u64).unwrap();
    let image = Image::open(file.path(), ImageOptions::default()).unwrap();

    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 0, most).unwrap();
    let disks = FileDisk::for_queues(&image, 3);
    setrlimit(Resource::RLIMIT_NOFILE, now, most).unwrap();

    assert!(disks.iter().all(|disk| matches!(disk, FileDisk::Plain(_))), "{disks:?}");
    assert_eq!(WARNINGS.load(Ordering::SeqCst), 1);
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
