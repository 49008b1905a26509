//! Requests that no decent driver makes.

use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RawDriver, Slot, Used, within};
use cubie_virtio_blk::{Blk, MemoryDisk};
use cubie_virtio_core::Features;
use virtio_drivers::transport::{DeviceStatus, Transport};
use vm_memory::{Address, Bytes, GuestAddress};

const DEADLINE: Duration = Duration::from_secs(20);

const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;
/// What the status byte holds before the device writes it.
const UNTOUCHED: u8 = 0xee;

const SECTORS: u64 = 16;

/// A driver, and a page of guest memory for its requests: header, status, then payload.
struct Bench {
    guest: Guest,
    slot: Slot,
    driver: RawDriver,
    page: GuestAddress,
}

impl Bench {
    fn new() -> Self {
        let guest = Guest::new();
        let disk = MemoryDisk::new(vec![0x11; (SECTORS * 512) as usize]);
        let slot = guest.plug(Box::new(Blk::new(disk, "hostile".parse().unwrap())));
        let driver = RawDriver::new(&slot, Features::default(), &[256]);
        let page = guest.buffer(1 << 20);
        Self { guest, slot, driver, page }
    }

    fn header(&self) -> u64 {
        self.page.0
    }

    fn status(&self) -> u64 {
        self.page.0 + 16
    }

    /// A proper request: header, these buffers, status.
    fn request(&self, payload: &[Descriptor]) -> Vec<Descriptor> {
        let header = Descriptor::readable(self.header(), 16);
        let status = Descriptor::writable(self.status(), 1);
        [&[header], payload, &[status]].concat()
    }

    /// `len` bytes for the device to read.
    fn data(&self, len: u32) -> Descriptor {
        Descriptor::readable(self.page.0 + 512, len)
    }

    /// The same bytes, for the device to write.
    fn room(&self, len: u32) -> Descriptor {
        Descriptor::writable(self.page.0 + 512, len)
    }

    /// Makes a proper request, see [`Bench::ask_with`].
    #[track_caller]
    fn ask(&mut self, kind: u32, sector: u64, payload: &[Descriptor]) -> (u32, u8) {
        self.ask_with(kind, sector, &self.request(payload))
    }

    /// Offers any buffers, and waits for them: bytes said to be written, and the status.
    #[track_caller]
    fn ask_with(&mut self, kind: u32, sector: u64, buffers: &[Descriptor]) -> (u32, u8) {
        let memory = self.guest.memory();
        let at = |offset| self.page.unchecked_add(offset);
        memory.write_obj(kind.to_le(), at(0)).unwrap();
        memory.write_obj(sector.to_le(), at(8)).unwrap();
        memory.write_obj(UNTOUCHED, at(16)).unwrap();
        let head = self.driver.offer(0, buffers);
        let Used { head: used, written } = self.driver.wait_used(0, DEADLINE);
        assert_eq!(used, u32::from(head));
        (written, memory.read_obj(at(16)).unwrap())
    }

    /// A proper read of sector 0, to see that the queue still works.
    #[track_caller]
    fn still_works(&mut self) {
        assert_eq!(self.ask(READ, 0, &[self.room(512)]), (513, OK));
        assert_eq!(self.received(), [0x11; 2]);
    }

    /// What the device wrote first.
    fn received<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.guest.memory().read_slice(&mut bytes, self.page.unchecked_add(512)).unwrap();
        bytes
    }
}

#[test]
fn a_chain_without_a_status_byte_comes_back_empty() {
    let mut bench = Bench::new();
    let header = Descriptor::readable(bench.header(), 16);
    for buffers in [
        &[header][..],
        &[Descriptor::readable(bench.header(), 3)],
        &[Descriptor::readable(bench.header(), 0)],
        &[header, bench.data(512)],
        &[header, Descriptor::writable(bench.status(), 0)],
    ] {
        assert_eq!(bench.ask_with(WRITE, 0, buffers), (0, UNTOUCHED), "{buffers:?}");
    }
    bench.still_works();
}

#[test]
fn a_header_that_is_too_short_is_an_error() {
    let mut bench = Bench::new();
    let status = Descriptor::writable(bench.status(), 1);
    let short = Descriptor::readable(bench.header(), 15);
    assert_eq!(bench.ask_with(FLUSH, 0, &[short, status]), (1, IO_ERROR));
    assert_eq!(bench.ask_with(FLUSH, 0, &[status]), (1, IO_ERROR));
    bench.still_works();
}

#[test]
fn a_header_and_a_status_may_lie_in_any_buffers() {
    let mut bench = Bench::new();
    let (header, status) = (bench.header(), bench.status());
    let pieces = [(0, 1), (1, 7), (8, 8)].map(|(at, len)| Descriptor::readable(header + at, len));
    let status = [Descriptor::writable(status, 1), Descriptor::writable(status, 0)];
    assert_eq!(bench.ask_with(FLUSH, 0, &[&pieces[..], &status].concat()), (1, OK));
    let pieces = [&[Descriptor::readable(header, 16)][..], &status[1..], &status[..1]].concat();
    assert_eq!(bench.ask_with(FLUSH, 0, &pieces), (1, OK));
}

#[test]
fn sectors_and_lengths_that_are_not_on_the_disk_are_errors() {
    let mut bench = Bench::new();
    let giant = [SECTORS, SECTORS - 1, u64::MAX, u64::MAX / 512, u64::MAX / 512 + 1, 1 << 63];
    for sector in giant {
        let room = bench.room(1024);
        assert_eq!(bench.ask(READ, sector, &[room]), (0, IO_ERROR), "{sector:#x}");
        let data = bench.data(1024);
        assert_eq!(bench.ask(WRITE, sector, &[data]), (1, IO_ERROR), "{sector:#x}");
    }
    for len in [1, 511, 513] {
        let room = bench.room(len);
        assert_eq!(bench.ask(READ, 0, &[room]), (0, IO_ERROR), "{len} bytes");
        let data = bench.data(len);
        assert_eq!(bench.ask(WRITE, 0, &[data]), (1, IO_ERROR), "{len} bytes");
    }
    bench.still_works();
}

#[test]
fn requests_of_no_length_do_nothing() {
    let mut bench = Bench::new();
    for kind in [READ, WRITE] {
        assert_eq!(bench.ask(kind, 0, &[]), (1, OK));
        assert_eq!(bench.ask(kind, SECTORS, &[]), (1, OK));
        assert_eq!(bench.ask(kind, SECTORS + 1, &[]), (1, IO_ERROR));
    }
    bench.still_works();
}

#[test]
fn payload_on_the_wrong_side_is_an_error_and_not_an_empty_request() {
    let mut bench = Bench::new();
    let (data, room) = (bench.data(512), bench.room(512));
    assert_eq!(bench.ask(READ, 0, &[data]), (1, IO_ERROR));
    assert_eq!(bench.ask(WRITE, 0, &[room]), (0, IO_ERROR));
    for kind in [READ, WRITE] {
        assert_eq!(bench.ask(kind, 0, &[data, room]), (0, IO_ERROR));
    }
    assert_eq!(bench.received(), [0; 512], "and nothing was written");
    bench.still_works();
}

#[test]
fn what_was_not_offered_is_unsupported() {
    let mut bench = Bench::new();
    let (legacy, zones) = ([2, 3, 5, 0x8000_0000], [15, 16, 18, 20, 22, 24, 26]);
    for kind in [10, 11, 13, 14, u32::MAX].into_iter().chain(legacy).chain(zones) {
        assert_eq!(bench.ask(kind, 0, &[bench.data(16)]), (1, UNSUPPORTED), "{kind}");
    }
    bench.still_works();
}

#[test]
fn an_identity_is_cut_or_left_short_as_there_is_room() {
    let mut bench = Bench::new();
    for (room, written) in [(0, 1), (4, 5), (20, 21), (64, 20)] {
        let room = bench.room(room);
        assert_eq!(bench.ask(GET_ID, 0, &[room]), (written, OK));
    }
    assert_eq!(&bench.received(), b"hostile\0");
}

#[test]
fn a_buffer_outside_of_memory_stops_the_device_until_it_is_reset() {
    let mut bench = Bench::new();
    bench.driver.offer(0, &bench.request(&[Descriptor::writable(0x1000, 512)]));
    bench.slot.wait_interrupt(DEADLINE);
    let status = bench.driver.transport().get_status();
    assert!(status.contains(DeviceStatus::DEVICE_NEEDS_RESET));
    assert_eq!(bench.driver.used(0), None);
    bench.driver = RawDriver::new(&bench.slot, Features::default(), &[256]);
    bench.still_works();
}

#[test]
fn stopping_under_load_returns_and_the_disk_starts_again() {
    within(DEADLINE, || {
        let mut bench = Bench::new();
        let request = bench.request(&[bench.room((SECTORS * 512) as u32)]);
        for _ in 0..100 {
            for _ in 0..80 {
                bench.driver.offer(0, &request);
            }
            // The new driver resets the device while it is at it.
            bench.driver = RawDriver::new(&bench.slot, Features::default(), &[256]);
        }
        bench.still_works();
    });
}

cubie_testkit::hostile!(|| {
    let disk = MemoryDisk::new(vec![0x11; (SECTORS * 512) as usize]);
    Box::new(Blk::new(disk, "hostile".parse().unwrap()))
});
