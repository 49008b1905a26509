//! A driver of a disk, and what it asks for.

use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RawDriver, Slot, Used};
use cubie_virtio_blk::{Blk, BlockBackend};
use cubie_virtio_core::{Features, VirtioDevice};
use vm_memory::{Address, Bytes, GuestAddress};

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) const READ: u32 = 0;
pub(crate) const WRITE: u32 = 1;
pub(crate) const FLUSH: u32 = 4;
pub(crate) const DISCARD: u32 = 11;
pub(crate) const WRITE_ZEROES: u32 = 13;

pub(crate) const OK: u8 = 0;
pub(crate) const IO_ERROR: u8 = 1;
pub(crate) const UNSUPPORTED: u8 = 2;
const UNTOUCHED: u8 = 0xee;

pub(crate) const F_FLUSH: Features = Features::bit(9);
pub(crate) const F_CONFIG_WCE: Features = Features::bit(11);
pub(crate) const F_MQ: Features = Features::bit(12);
pub(crate) const F_DISCARD: Features = Features::bit(13);
pub(crate) const F_WRITE_ZEROES: Features = Features::bit(14);

pub(crate) fn device(backend: impl BlockBackend) -> Blk<impl BlockBackend> {
    Blk::new(backend, "a-disk".parse().unwrap())
}

/// A driver, and a page of guest memory for one request at a time: header, status, then payload.
pub(crate) struct Bench {
    pub(crate) guest: Guest,
    pub(crate) slot: Slot,
    pub(crate) driver: RawDriver,
    page: GuestAddress,
}

impl Bench {
    /// A driver that has chosen these features, and sets up so many queues.
    pub(crate) fn new(
        device: impl VirtioDevice + 'static,
        features: Features,
        queues: usize,
    ) -> Self {
        let guest = Guest::new();
        let slot = guest.plug(Box::new(device));
        let driver = RawDriver::new(&slot, features, &vec![256; queues]);
        let page = guest.buffer(1 << 20);
        Self { guest, slot, driver, page }
    }

    /// Makes a request of queue 0, waits for it, and returns the status.
    #[track_caller]
    pub(crate) fn ask(&mut self, kind: u32, sector: u64, payload: &[Descriptor]) -> u8 {
        self.ask_queue(0, kind, sector, payload)
    }

    #[track_caller]
    pub(crate) fn ask_queue(
        &mut self,
        queue: usize,
        kind: u32,
        sector: u64,
        payload: &[Descriptor],
    ) -> u8 {
        let buffers = self.request(kind, sector, payload);
        let head = self.driver.offer(queue, &buffers);
        let Used { head: used, .. } = self.driver.wait_used(queue, DEADLINE);
        assert_eq!(used, u32::from(head));
        self.status()
    }

    /// What a request is made of, with its header in place.
    pub(crate) fn request(
        &self,
        kind: u32,
        sector: u64,
        payload: &[Descriptor],
    ) -> Vec<Descriptor> {
        let memory = self.guest.memory();
        memory.write_obj(kind, self.page).unwrap();
        memory.write_obj(sector, self.page.unchecked_add(8)).unwrap();
        memory.write_obj(UNTOUCHED, self.page.unchecked_add(16)).unwrap();
        let header = Descriptor::readable(self.page.0, 16);
        let status = Descriptor::writable(self.page.0 + 16, 1);
        [&[header], payload, &[status]].concat()
    }

    pub(crate) fn status(&self) -> u8 {
        self.guest.memory().read_obj(self.page.unchecked_add(16)).unwrap()
    }

    #[track_caller]
    pub(crate) fn write(&mut self, queue: usize, sector: u64, bytes: &[u8]) -> u8 {
        let at = self.page.unchecked_add(4096);
        self.guest.memory().write_slice(bytes, at).unwrap();
        self.ask_queue(queue, WRITE, sector, &[Descriptor::readable(at.0, bytes.len() as u32)])
    }

    #[track_caller]
    pub(crate) fn read(&mut self, queue: usize, sector: u64, len: usize) -> (u8, Vec<u8>) {
        let at = self.page.unchecked_add(4096);
        let room = Descriptor::writable(at.0, len as u32);
        let status = self.ask_queue(queue, READ, sector, &[room]);
        let mut bytes = vec![0; len];
        self.guest.memory().read_slice(&mut bytes, at).unwrap();
        (status, bytes)
    }

    /// A discard or a write of zeros.
    #[track_caller]
    pub(crate) fn change(&mut self, kind: u32, sector: u64, sectors: u32, flags: u32) -> u8 {
        let range = u128::from(sector) | u128::from(sectors) << 64 | u128::from(flags) << 96;
        self.change_with(kind, &range.to_le_bytes())
    }

    /// The same, with any bytes for a range.
    #[track_caller]
    pub(crate) fn change_with(&mut self, kind: u32, range: &[u8]) -> u8 {
        let at = self.page.unchecked_add(4096);
        self.guest.memory().write_slice(range, at).unwrap();
        self.ask(kind, 0, &[Descriptor::readable(at.0, range.len() as u32)])
    }
}
