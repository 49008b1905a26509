//! One vCPU's part of a session.

use arbitrary::{Arbitrary, Result, Unstructured};
use vm_memory::{Bytes, GuestAddress};

use super::Progress;
use super::bench::{Bench, MEMORY};

/// Registers that do something when they are written, in both interfaces.
const REGISTERS: [u64; 22] = [
    0x14, 0x20, 0x24, 0x28, 0x30, 0x38, 0x3c, 0x40, 0x44, 0x50, 0x64, 0x70, 0x80, 0x84, 0x90, 0x94,
    0xa0, 0xa4, 0xac, 0xc0, 0xfc, 0x100,
];
const PAGE: u64 = 0x1000;

/// What a driver does.
#[derive(Arbitrary, Debug)]
pub(super) enum Step {
    /// A word into a register that does something.
    Set(Register, u32),
    /// Up to eight bytes anywhere.
    Write(Offset, [u8; 8], Width),
    Read(Offset, Width),
    /// From a reset to FEATURES_OK with these features.
    Negotiate(u64),
    /// A queue of this size in a page of memory.
    SetUp(bool, u8, u8),
    /// DRIVER_OK.
    Ready,
    /// All of it by a driver that knows how: these features as far as offered, queues of this size.
    Drive(u32, u8),
    /// The queue is reset by itself.
    ResetQueue(bool),
    /// A chain of one buffer, and a kick.
    Offer {
        queue: bool,
        address: u16,
        len: u16,
        writable: bool,
    },
    /// Anything into guest memory.
    Memory(u16, [u8; 16]),
    /// The device changes its configuration.
    Change(u8),
    /// The machine resets the device.
    Reset,
}

#[derive(Debug)]
pub(super) struct Register(u64);

impl<'a> Arbitrary<'a> for Register {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(*u.choose(&REGISTERS)?))
    }
}

/// In the registers and the configuration space, and a little beyond; now and then anywhere.
#[derive(Debug)]
pub(super) struct Offset(u64);

impl<'a> Arbitrary<'a> for Offset {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(if u.ratio(1, 16)? { u.arbitrary()? } else { u.int_in_range(0..=0x210)? }))
    }
}

#[derive(Debug)]
pub(super) struct Width(usize);

impl<'a> Arbitrary<'a> for Width {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(*u.choose(&[4, 1, 2, 8, 3, 0])?))
    }
}

/// A queue as this driver has set it up: page, size, and what it has made available.
#[derive(Clone, Copy, Default)]
struct Queue {
    page: u64,
    size: u64,
    available: u16,
}

impl Queue {
    fn driver_area(self) -> u64 {
        self.page + 16 * self.size
    }

    fn device_area(self) -> u64 {
        (self.driver_area() + 2 * (3 + self.size)).next_multiple_of(64)
    }
}

pub(super) struct Driver<'a> {
    bench: &'a Bench,
    queues: [Queue; 2],
    progress: Progress,
}

impl<'a> Driver<'a> {
    pub(super) fn new(bench: &'a Bench) -> Self {
        Self { bench, queues: Default::default(), progress: Progress::Nothing }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    pub(super) fn take(&mut self, step: &Step) {
        let bench = self.bench;
        match step {
            Step::Set(register, value) => bench.write(register.0, *value),
            Step::Write(offset, bytes, width) => bench.write_bytes(offset.0, &bytes[..width.0]),
            Step::Read(offset, width) => bench.read_bytes(offset.0, &mut [0; 8][..width.0]),
            Step::Negotiate(features) => self.negotiate(*features, features & 1 << 63 == 0),
            Step::SetUp(queue, size, page) => self.set_up(*queue, *size, *page),
            Step::Ready => bench.write(0x70, bench.status() | 4),
            Step::Drive(features, size) => {
                self.negotiate(u64::from(*features) << 28, true);
                for queue in [false, true] {
                    self.set_up(queue, *size, 1 + u8::from(queue));
                }
                bench.write(0x70, bench.status() | 4);
            }
            Step::ResetQueue(queue) => self.reset_queue(*queue),
            Step::Offer { queue, address, len, writable } => {
                self.offer(*queue, *address, *len, *writable);
            }
            Step::Memory(at, bytes) => self.put(u64::from(*at), bytes),
            Step::Change(to) => bench.config().update(|bytes| bytes.fill(*to)),
            Step::Reset => bench.write(0x70, 0),
        }
        bench.check();
        self.look();
    }

    /// What was not offered would be refused: there are drivers that know.
    fn negotiate(&mut self, features: u64, knows: bool) {
        for status in [0, 1, 3] {
            self.bench.write(0x70, status);
        }
        // VERSION_1 is the first feature of the second word.
        let features = features | 1 << 32;
        for (word, chosen) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.bench.write(0x14, word);
            let offered = if knows { self.bench.read(0x10) } else { !0 };
            self.bench.write(0x24, word);
            self.bench.write(0x20, chosen & offered);
        }
        self.bench.write(0x70, 11);
    }

    /// By the registers of either interface: the other's are ignored.
    fn set_up(&mut self, queue: bool, size: u8, page: u8) {
        let size = match size {
            0..240 => 1 << (size % 5),
            _ => size.into(),
        };
        let page = u64::from(page % 16);
        let index = usize::from(queue);
        self.queues[index] = Queue { page: page * PAGE, size, available: 0 };
        let there = self.queues[index];
        self.put(there.page, &[0; PAGE as usize]);
        for (register, value) in [
            (0x30, index as u64),
            (0x28, PAGE),
            (0x38, size),
            (0x3c, 64),
            (0x80, there.page),
            (0x90, there.driver_area()),
            (0xa0, there.device_area()),
            (0x44, 1),
            (0x40, page),
        ] {
            self.bench.write(register, value as u32);
        }
    }

    fn reset_queue(&mut self, queue: bool) {
        self.bench.write(0x30, queue.into());
        let ready = self.bench.read(0x40) | self.bench.read(0x44);
        self.bench.write(0xc0, 1);
        self.bench.write(0x40, 0);
        let still = self.bench.read(0x40) | self.bench.read(0x44);
        if ready != 0 && still == 0 && self.progress >= Progress::Live {
            self.progress = self.progress.max(Progress::QueueReset);
        }
    }

    /// In the manner of a split ring; a packed one takes it as it comes.
    fn offer(&mut self, queue: bool, address: u16, len: u16, writable: bool) {
        let there = &mut self.queues[usize::from(queue)];
        let slot = u64::from(there.available) % there.size.max(1);
        there.available = there.available.wrapping_add(1);
        let there = *there;
        let flags = if writable { 2u64 } else { 0 };
        self.put(there.page + 16 * slot, &u64::from(address).to_le_bytes());
        self.put(there.page + 16 * slot + 8, &(u64::from(len) | flags << 32).to_le_bytes());
        let ring = there.driver_area();
        self.put(ring + 4 + 2 * slot, &(slot as u16).to_le_bytes());
        self.put(ring + 2, &there.available.to_le_bytes());
        self.bench.write(0x50, queue.into());
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        let room = (MEMORY as u64).saturating_sub(at).min(bytes.len() as u64);
        // Less at the end of memory, and nothing beyond.
        let _ = self.bench.memory().write_slice(&bytes[..room as usize], GuestAddress(at));
    }

    fn look(&mut self) {
        let status = self.bench.status();
        let used = self.bench.read(0x60) & 1 != 0;
        self.progress = self.progress.max(match status {
            _ if status & 0x40 != 0 => Progress::NeedsReset,
            _ if status & 4 == 0 => Progress::Nothing,
            _ if used => Progress::Served,
            _ => Progress::Live,
        });
    }
}
