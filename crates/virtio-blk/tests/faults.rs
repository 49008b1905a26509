//! Disks whose host fails, in each way that it may.

use std::iter;
use std::time::Duration;

use cubie_testkit::{Descriptor, Errno, Fault, Faults, Faulty, Guest, RawDriver, Slot, within};
use cubie_virtio_blk::{Blk, MemoryDisk, Serial};
use cubie_virtio_core::Features;
use vm_memory::{Bytes, GuestAddress};

const DEADLINE: Duration = Duration::from_secs(20);
const FLUSH_FEATURE: u32 = 9;

const READ: u8 = 0;
const WRITE: u8 = 1;
const FLUSH: u8 = 4;

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
/// What the status byte holds before the device writes it.
const UNTOUCHED: u8 = 0xee;

const SECTORS: u8 = 64;
/// Requests that are there at once.
const BATCH: usize = 60;

const ERRORS: [Fault; 4] = [
    Fault::Error(Errno::IO),
    Fault::Error(Errno::NOSPC),
    Fault::Error(Errno::AGAIN),
    Fault::Error(Errno::INTR),
];
const ALL: [Fault; 7] =
    [ERRORS[0], ERRORS[1], ERRORS[2], Fault::Short, Fault::Late(0), Fault::Late(1), Fault::Late(5)];

/// A request in guest memory: header, status, and a sector of payload.
#[derive(Clone, Copy)]
struct Asked {
    kind: u8,
    sector: u8,
    /// What a write brings, and what is there before a read.
    fill: u8,
    page: u64,
}

impl Asked {
    fn status(&self, guest: &Guest) -> u8 {
        guest.memory().read_obj(GuestAddress(self.page + 16)).unwrap()
    }

    fn payload(&self, guest: &Guest) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        guest.memory().read_slice(&mut bytes, GuestAddress(self.page + 512)).unwrap();
        bytes
    }
}

struct Bench {
    guest: Guest,
    slot: Slot,
    faults: Faults,
    driver: RawDriver,
    pages: Vec<u64>,
    kicks: u64,
    fill: u8,
    /// What each sector is filled with.
    model: Vec<u8>,
}

impl Bench {
    fn new(faults: Faults) -> Self {
        let guest = Guest::new();
        let disk = MemoryDisk::new(vec![0; usize::from(SECTORS) * 512]);
        let serial: Serial = "faulty".parse().unwrap();
        let slot = guest.plug(Box::new(Blk::new(Faulty::new(disk, &faults), serial)));
        let driver = drive(&slot);
        let pages = iter::repeat_with(|| guest.buffer(1024).0).take(BATCH).collect();
        let model = vec![0; SECTORS.into()];
        Self { guest, slot, faults, driver, pages, kicks: 0, fill: 0, model }
    }

    /// Makes requests, all of them available at once, and waits until each has come back: once, with a
    /// status, and a read that succeeded with what is on the disk.
    fn serve(&mut self, requests: &[(u8, u8)]) -> Vec<u8> {
        let mut waiting = vec![None; 256];
        let mut asked = vec![];
        for (place, (kind, sector)) in requests.iter().enumerate() {
            let (head, request) = self.offer(place, *kind, *sector);
            assert!(waiting[usize::from(head)].replace(request).is_none());
            asked.push(request);
        }
        self.kick();
        for _ in &asked {
            let used = self.driver.wait_used(0, DEADLINE);
            let asked = waiting[used.head as usize].take().expect("a request comes back once");
            self.check(asked, used.written);
        }
        asked.iter().map(|asked| asked.status(&self.guest)).collect()
    }

    /// Makes what was offered available, all of it at once: also to a worker that looks for the first time just
    /// now.
    fn kick(&mut self) {
        self.driver.queue(0).publish();
        self.kicks += 1;
        self.driver.kick(0);
    }

    /// Makes one, at a place of its own in guest memory, to be available with the next kick.
    fn offer(&mut self, place: usize, kind: u8, sector: u8) -> (u16, Asked) {
        self.fill = self.fill.wrapping_add(1);
        let asked = Asked { kind, sector, fill: self.fill, page: self.pages[place] };
        let (memory, page) = (self.guest.memory(), asked.page);
        let mut header = [0; 16];
        (header[0], header[8]) = (kind, sector);
        memory.write_obj(header, GuestAddress(page)).unwrap();
        memory.write_obj(UNTOUCHED, GuestAddress(page + 16)).unwrap();
        memory.write_slice(&[asked.fill; 512], GuestAddress(page + 512)).unwrap();
        let payload = match kind {
            READ => vec![Descriptor::writable(page + 512, 512)],
            WRITE => vec![Descriptor::readable(page + 512, 512)],
            _ => vec![],
        };
        let (header, status) = (Descriptor::readable(page, 16), Descriptor::writable(page + 16, 1));
        let buffers = [&[header][..], &payload, &[status]].concat();
        (self.driver.queue(0).add(&buffers).expect("free descriptors"), asked)
    }

    fn check(&mut self, asked: Asked, written: u32) {
        let status = asked.status(&self.guest);
        let (kind, sector) = (asked.kind, usize::from(asked.sector));
        match (kind, status) {
            (READ, OK) => {
                assert_eq!(written, 513);
                assert_eq!(asked.payload(&self.guest), [self.model[sector]; 512]);
            }
            (READ, IO_ERROR) => assert_eq!(written, 0),
            (WRITE, OK) => self.model[sector] = asked.fill,
            (WRITE | FLUSH, OK | IO_ERROR) => assert_eq!(written, 1),
            _ => panic!("status {status:#x} of {kind}: {:?}", self.faults),
        }
    }

    /// Every sector holds what was answered last.
    fn check_disk(&mut self) {
        for first in (0..SECTORS).step_by(BATCH) {
            let sectors = (first..SECTORS).take(BATCH);
            let statuses = self.serve(&sectors.map(|sector| (READ, sector)).collect::<Vec<_>>());
            assert!(statuses.iter().all(|status| *status == OK), "{statuses:?}");
        }
    }
}

fn drive(slot: &Slot) -> RawDriver {
    RawDriver::new(slot, Features::bit(FLUSH_FEATURE), &[256])
}

/// Different requests for different sectors, so that it does not matter which one comes first.
fn mixture(round: usize) -> Vec<(u8, u8)> {
    let kinds = [WRITE, READ, WRITE, FLUSH, READ];
    (0..BATCH).map(|n| (kinds[(n + round) % kinds.len()], n as u8)).collect()
}

fn count<T: PartialEq>(all: &[T], one: T) -> usize {
    all.iter().filter(|this| **this == one).count()
}

#[test]
fn each_error_of_the_host_is_one_requests_error() {
    for fault in ERRORS.into_iter().chain([Fault::Short]) {
        within(DEADLINE, move || {
            let faults = Faults::storm(fault, BATCH + 7);
            let mut bench = Bench::new(faults.clone());
            let statuses = [0, 1].map(|round| bench.serve(&mixture(round))).concat();
            let failed = [[IO_ERROR].repeat(BATCH + 7), [OK].repeat(BATCH - 7)].concat();
            assert_eq!(statuses, failed, "in the order of the storm: {fault:?}");
            bench.check_disk();
        });
    }
}

#[test]
fn requests_that_are_late_are_answered_in_another_order_and_none_is_lost() {
    within(DEADLINE, || {
        let late = (0..BATCH as u8).rev().map(|turns| Some(Fault::Late(turns)));
        let faults = Faults::script(late);
        let mut bench = Bench::new(faults.clone());
        let offered: Vec<_> = (0..BATCH).map(|n| bench.offer(n, WRITE, n as u8)).collect();
        bench.kick();
        for (head, asked) in offered.into_iter().rev() {
            let used = bench.driver.wait_used(0, DEADLINE);
            assert_eq!(used.head, u32::from(head), "the last one comes first");
            bench.check(asked, used.written);
        }
        bench.check_disk();
    });
}

#[test]
fn storms_of_all_faults_lose_nothing_and_cost_a_bounded_number_of_calls() {
    const ROUNDS: usize = 40;
    for seed in 0..8 {
        within(DEADLINE, move || {
            let faults = Faults::seeded(seed, 3, &ALL);
            let mut bench = Bench::new(faults.clone());
            let statuses: Vec<_> = (0..ROUNDS).flat_map(|n| bench.serve(&mixture(n))).collect();
            let injected = faults.injected();
            let is_late = |fault: &Fault| matches!(fault, Fault::Late(_));
            let errors = injected.iter().filter(|injected| !is_late(&injected.fault)).count();
            assert_eq!(count(&statuses, IO_ERROR), errors, "{faults:?}");
            // Each request is submitted once and comes out once. Each turn ends with one look more, and has a
            // kick for its reason, a fault that is late, or the start.
            let turns = injected.iter().map(|injected| match injected.fault {
                Fault::Late(turns) => u64::from(turns) + 1,
                _ => 0,
            });
            let most = 2 * statuses.len() as u64 + turns.sum::<u64>() + 2 * bench.kicks + 2;
            assert!(faults.calls() <= most, "{} calls of {most}", faults.calls());
            faults.off();
            bench.check_disk();
        });
    }
}

#[test]
fn a_disk_that_dies_answers_with_errors_and_serves_again_when_it_is_back() {
    within(DEADLINE, || {
        let late = iter::repeat_n(Some(Fault::Late(200)), 20);
        let faults = Faults::script(late.chain([None, None, Some(Fault::Death)]));
        let mut bench = Bench::new(faults.clone());
        let statuses = bench.serve(&mixture(0));
        assert_eq!(count(&statuses, OK), 2, "{statuses:?}");
        assert_eq!(bench.serve(&mixture(1)), [IO_ERROR; BATCH]);
        faults.off();
        assert_eq!(bench.serve(&mixture(2)), [OK; BATCH]);
        bench.check_disk();
    });
}

#[test]
fn what_is_late_is_answered_before_a_reset_ends() {
    within(DEADLINE, || {
        let faults = Faults::storm(Fault::Late(u8::MAX), BATCH);
        let mut bench = Bench::new(faults.clone());
        let offered: Vec<_> = (0..BATCH).map(|n| bench.offer(n, WRITE, n as u8)).collect();
        bench.kick();
        while faults.injected().len() < BATCH {
            std::thread::yield_now();
        }
        let device = bench.slot.unplug();
        let answered = iter::from_fn(|| bench.driver.used(0)).count();
        assert_eq!(answered, BATCH);
        offered.into_iter().for_each(|(_, asked)| bench.check(asked, 1));
        bench.slot = bench.guest.plug(device);
        bench.driver = drive(&bench.slot);
        bench.check_disk();
    });
}

cubie_testkit::conformance!(|| {
    let disk = MemoryDisk::new(vec![7; 64 << 10]);
    let faulty = Faulty::new(disk, &Faults::seeded(0, 2, &ALL));
    Box::new(Blk::new(faulty, "faulty".parse().unwrap()))
});
