//! Backends: one that finishes later and in another order, and what can be opened.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RawDriver};
use cubie_virtio_blk::{
    Blk, BlockBackend, Completion, MemoryDisk, OpenError, Operation, RawFile, Request,
};
use cubie_virtio_core::{Features, VirtioDevice};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use virtio_drivers::transport::{DeviceStatus, Transport};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const DEADLINE: Duration = Duration::from_secs(20);
const FLUSH_FEATURE: u32 = 9;

/// Keeps what it gets until it is told to let go; then the last comes first.
struct Reversing {
    disk: MemoryDisk,
    kept: Vec<Completion>,
    ready: EventFd,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    hold: AtomicBool,
    operations: Mutex<Vec<Operation>>,
}

impl Reversing {
    fn new(hold: bool) -> (Self, Arc<Seen>, EventFd) {
        let seen = Arc::new(Seen { hold: AtomicBool::new(hold), ..Seen::default() });
        let ready = EventFd::new(EFD_NONBLOCK).unwrap();
        let ours = ready.try_clone().unwrap();
        let disk = MemoryDisk::new(vec![0; 64 * 512]);
        (Self { disk, kept: Vec::new(), ready, seen: seen.clone() }, seen, ours)
    }
}

impl BlockBackend for Reversing {
    fn size(&self) -> u64 {
        self.disk.size()
    }
    fn submit(&mut self, request: Request) -> Option<Completion> {
        self.seen.operations.lock().unwrap().push(request.operation());
        self.kept.extend(self.disk.submit(request));
        None
    }
    fn start(&mut self) {
        self.ready.write(1).unwrap();
    }
    fn complete(&mut self) -> Option<Completion> {
        if self.seen.hold.load(Ordering::SeqCst) { None } else { self.kept.pop() }
    }
    fn wait(&mut self) -> Option<Completion> {
        self.kept.pop()
    }
    #[expect(unsafe_code, reason = "vmm-sys-util's EventFd has no safe way to a BorrowedFd")]
    fn ready_fd(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the eventfd is open as long as this value lives.
        Some(unsafe { BorrowedFd::borrow_raw(self.ready.as_raw_fd()) })
    }
}

fn device(backend: impl BlockBackend) -> Box<dyn VirtioDevice> {
    Box::new(Blk::new(backend, "backend".parse().unwrap()))
}

/// Offers the write of one sector filled with its own number.
fn offer_write(guest: &Guest, driver: &mut RawDriver, sector: u8) -> (u16, GuestAddress) {
    let page = guest.buffer(1024);
    let mut header = [0; 16];
    (header[0], header[8]) = (1, sector);
    guest.memory().write_obj(header, page).unwrap();
    let status = GuestAddress(page.0 + 16);
    guest.memory().write_obj(0xeeu8, status).unwrap();
    guest.memory().write_slice(&[sector; 512], GuestAddress(page.0 + 512)).unwrap();
    let buffers = [
        Descriptor::readable(page.0, 16),
        Descriptor::readable(page.0 + 512, 512),
        Descriptor::writable(status.0, 1),
    ];
    (driver.offer(0, &buffers), status)
}

/// Reads one byte of a sector.
fn peek(guest: &Guest, driver: &mut RawDriver, sector: u8) -> u8 {
    let page = guest.buffer(1024);
    let mut header = [0; 16];
    header[8] = sector;
    guest.memory().write_obj(header, page).unwrap();
    let buffers = [Descriptor::readable(page.0, 16), Descriptor::writable(page.0 + 511, 513)];
    driver.offer(0, &buffers);
    assert_eq!(driver.wait_used(0, DEADLINE).written, 513);
    guest.memory().read_obj(GuestAddress(page.0 + 600)).unwrap()
}

#[test]
fn requests_may_be_finished_later_and_in_any_order() {
    let guest = Guest::new();
    let (backend, seen, ready) = Reversing::new(true);
    let slot = guest.plug(device(backend));
    let mut driver = RawDriver::new(&slot, Features::bit(FLUSH_FEATURE), &[128]);
    let offered: Vec<_> = (0..40).map(|n| offer_write(&guest, &mut driver, n)).collect();
    // Once all are in the backend's hands, none of them is answered.
    while seen.operations.lock().unwrap().len() < 40 {
        std::thread::yield_now();
    }
    assert_eq!(driver.used(0), None);
    seen.hold.store(false, Ordering::SeqCst);
    ready.write(1).unwrap();
    for (head, status) in offered.iter().rev() {
        assert_eq!(driver.wait_used(0, DEADLINE).head, u32::from(*head));
        assert_eq!(guest.memory().read_obj::<u8>(*status).unwrap(), 0);
    }
    for sector in 0..40 {
        assert_eq!(peek(&guest, &mut driver, sector), sector);
    }
}

#[test]
fn what_is_in_flight_is_answered_before_a_reset_ends() {
    let guest = Guest::new();
    let (backend, seen, _ready) = Reversing::new(true);
    let slot = guest.plug(device(backend));
    let mut driver = RawDriver::new(&slot, Features::bit(FLUSH_FEATURE), &[128]);
    let offered: Vec<_> = (1..20).map(|n| offer_write(&guest, &mut driver, n)).collect();
    while seen.operations.lock().unwrap().len() < offered.len() {
        std::thread::yield_now();
    }
    assert_eq!(driver.used(0), None);
    driver.transport().set_status(DeviceStatus::empty());
    for (head, _) in offered.iter().rev() {
        assert_eq!(driver.used(0).map(|used| used.head), Some(u32::from(*head)));
    }
    drop(driver);
    seen.hold.store(false, Ordering::SeqCst);
    let mut driver = RawDriver::new(&slot, Features::bit(FLUSH_FEATURE), &[128]);
    assert_eq!(peek(&guest, &mut driver, 19), 19);
}

#[test]
fn writes_go_through_for_a_driver_that_cannot_flush() {
    let guest = Guest::new();
    let (backend, seen, _ready) = Reversing::new(false);
    let slot = guest.plug(device(backend));
    for features in [Features::default(), Features::bit(FLUSH_FEATURE)] {
        let mut driver = RawDriver::new(&slot, features, &[128]);
        offer_write(&guest, &mut driver, 3);
        driver.wait_used(0, DEADLINE);
    }
    let through = [true, false].map(|through| Operation::Write { offset: 3 * 512, through });
    assert_eq!(*seen.operations.lock().unwrap(), through);
}

/// Refuses everything behind sector 8.
struct Refusing(MemoryDisk);

impl BlockBackend for Refusing {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn submit(&mut self, request: Request) -> Option<Completion> {
        match request.operation() {
            Operation::Write { offset, .. } if offset >= 8 * 512 => {
                Some(request.finish(Err(io::ErrorKind::StorageFull.into())))
            }
            _ => self.0.submit(request),
        }
    }
}

#[test]
fn what_the_host_refuses_is_that_requests_error_only() {
    let guest = Guest::new();
    let slot = guest.plug(device(Refusing(MemoryDisk::new(vec![0; 64 * 512]))));
    let mut driver = RawDriver::new(&slot, Features::bit(FLUSH_FEATURE), &[128]);
    for (sector, expected) in [(7, 0), (8, 1), (9, 1), (6, 0)] {
        let (_, status) = offer_write(&guest, &mut driver, sector);
        assert_eq!(driver.wait_used(0, DEADLINE).written, 1);
        assert_eq!(guest.memory().read_obj::<u8>(status).unwrap(), expected, "sector {sector}");
    }
    assert_eq!((peek(&guest, &mut driver, 7), peek(&guest, &mut driver, 8)), (7, 0));
}

/// Would write if it were asked to.
struct Protected(MemoryDisk);

impl BlockBackend for Protected {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn is_read_only(&self) -> bool {
        true
    }
    fn submit(&mut self, request: Request) -> Option<Completion> {
        self.0.submit(request)
    }
}

#[test]
fn no_write_gets_to_a_backend_that_is_read_only() {
    let guest = Guest::new();
    let slot = guest.plug(device(Protected(MemoryDisk::new(vec![0; 64 * 512]))));
    let mut driver = RawDriver::new(&slot, Features::bit(FLUSH_FEATURE), &[128]);
    let (_, status) = offer_write(&guest, &mut driver, 3);
    driver.wait_used(0, DEADLINE);
    assert_eq!(guest.memory().read_obj::<u8>(status).unwrap(), 1);
    assert_eq!(peek(&guest, &mut driver, 3), 0);
}

#[test]
fn what_cannot_be_a_disk_is_refused_with_its_name_and_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let [socket, pipe, empty, short] =
        ["socket", "pipe", "empty", "short"].map(|name| dir.path().join(name));
    let _listener = UnixListener::bind(&socket).unwrap();
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    File::create(&empty).unwrap();
    File::create(&short).unwrap().set_len(511).unwrap();
    for (path, reason) in [
        (dir.path().join("missing"), "No such file"),
        (dir.path().into(), "is a directory, not a file or a block device"),
        ("/dev/null".into(), "is a character device"),
        (socket, "is a socket"),
        (pipe, "is a pipe"),
        (empty, "has 0 bytes, less than a sector of 512"),
        (short, "has 511 bytes"),
    ] {
        for read_only in [true, false] {
            let error = RawFile::open(&path, read_only).unwrap_err().to_string();
            let named = format!("disk {}: ", path.display());
            assert!(error.starts_with(&named) && error.contains(reason), "{error}");
        }
    }
}

#[test]
fn a_file_that_can_only_be_read_says_what_to_add() {
    // A program that runs cannot be written, not even by root.
    let program = "/proc/self/exe";
    let error = RawFile::open(program, false).unwrap_err();
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
    assert!(error.to_string().ends_with("add «,ro» to use it read-only"), "{error}");
    assert!(RawFile::open(program, true).unwrap().is_read_only());
}

#[test]
fn a_disk_that_is_written_is_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    File::create(&path).unwrap().set_len(4096).unwrap();
    let refused = |read_only| {
        let error = RawFile::open(&path, read_only).unwrap_err();
        assert!(matches!(&error, OpenError::InUse { path: named } if *named == path), "{error:?}");
        let said = format!("disk {}: is in use by another VM", path.display());
        assert!(error.to_string().starts_with(&said), "{error}");
    };
    let writer = RawFile::open(&path, false).unwrap();
    refused(false);
    refused(true);
    drop(writer);
    let readers = [(); 2].map(|()| RawFile::open(&path, true).unwrap());
    refused(false);
    drop(readers);
    RawFile::open(&path, false).unwrap();
}

#[test]
fn a_disk_of_another_size_is_not_taken_for_the_saved_one() {
    let disk = |sectors: usize| {
        Blk::new(MemoryDisk::new(vec![0; sectors * 512]), "saved".parse().unwrap())
    };
    let saved = disk(64).save();
    disk(64).restore(&saved).unwrap();
    let error = disk(65).restore(&saved).unwrap_err().to_string();
    assert!(error.contains("a disk of 32768 bytes, and this one has 33280: attach"), "{error}");
    for bad in [&[][..], &saved[..8], &[2; 9], &[0; 10]] {
        let error = disk(64).restore(bad).unwrap_err().to_string();
        assert!(error.contains("none of a disk"), "{error}");
    }
}
