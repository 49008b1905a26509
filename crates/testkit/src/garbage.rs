//! Chains and bytes that no protocol knows, and numbers to choose them by.

use cubie_virtq::driver::Buffer;
use vm_memory::Bytes;

use crate::Guest;

/// Lengths around those of headers, sectors, frames and pages.
const LENGTHS: [u32; 14] = [0, 1, 2, 4, 8, 10, 12, 16, 17, 511, 512, 513, 1526, 4096];
/// Lengths that the parts of a request often have; 0 is none.
const HEADERS: [u32; 6] = [0, 8, 10, 12, 16, 16];
const PAYLOADS: [u32; 8] = [0, 1, 64, 512, 512, 1024, 1526, 4096];
const STATUSES: [u32; 5] = [0, 0, 1, 1, 4];
/// Bytes of each half of an [`Arena`],
pub(crate) const HALF: u32 = 64 << 10;
/// and how many of them, the first ones, have every other buffer: those overlap.
pub(crate) const HOT: u32 = 1 << 10;
/// Most chains are no longer than this, some as long as there is room, and none longer than that.
const SHORT: u64 = 5;
const LONG: u64 = 64;
/// What begins a record of the device's protocol, if anything does.
const RECORD: usize = 16;

/// Numbers that repeat with their seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Memory for buffers: one half is full of garbage for the device to read, and stays as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arena {
    readable: u64,
    writable: u64,
}

impl Arena {
    pub(crate) fn new(guest: &Guest, random: &mut Random) -> Self {
        let arena = Self {
            readable: guest.buffer(HALF as usize).0,
            writable: guest.buffer(HALF as usize).0,
        };
        let bytes: Vec<u8> = (0..HALF as usize / RECORD).flat_map(|_| record(random)).collect();
        let at = vm_memory::GuestAddress(arena.readable);
        guest.memory().write_slice(&bytes, at).expect("the arena lies in memory");
        arena
    }

    /// An address within, for a store of at most eight bytes.
    pub(crate) fn at(&self, writable: bool, offset: u32) -> u64 {
        let half = if writable { self.writable } else { self.readable };
        half + u64::from(offset.min(HALF - 8))
    }

    /// A chain of at most `most` buffers: of any shape, or of one that gets further with a device, every
    /// other time.
    pub(crate) fn chain(&self, random: &mut Random, most: u16) -> Vec<Buffer> {
        let request = match random.below(2) {
            0 => vec![],
            _ => self.request(random, most),
        };
        if request.is_empty() { self.any(random, most) } else { request }
    }

    /// As most protocols have it: a header, payload on one side, room for a status, or some of these.
    fn request(&self, random: &mut Random, most: u16) -> Vec<Buffer> {
        let header = pick(random, &HEADERS);
        let (payload, room) = (pick(random, &PAYLOADS), random.below(2) == 0);
        let status = pick(random, &STATUSES);
        let parts = [(header, false), (payload, room), (status, true)].into_iter();
        let parts = parts.filter(|(len, _)| *len > 0).take(most.into());
        parts.map(|(len, writable)| self.record(random, len, writable)).collect()
    }

    fn any(&self, random: &mut Random, most: u16) -> Vec<Buffer> {
        let most = u64::from(most).min(LONG);
        let count = match random.below(8) {
            0 => most,
            _ => 1 + random.below(most.min(SHORT)),
        };
        let readable = random.below(count + 1);
        (0..count).map(|n| self.buffer(random, n >= readable)).collect()
    }

    fn buffer(&self, random: &mut Random, writable: bool) -> Buffer {
        let len = pick(random, &LENGTHS);
        match random.below(4) {
            0 => self.at_offset(random.below(u64::from(HALF - len)), len, writable),
            _ => self.record(random, len, writable),
        }
    }

    /// A buffer that begins with a record.
    fn record(&self, random: &mut Random, len: u32, writable: bool) -> Buffer {
        let end = if random.below(2) == 0 { HOT } else { HALF - len };
        let offset = random.below(end.into());
        self.at_offset(offset - offset % RECORD as u64, len, writable)
    }

    fn at_offset(&self, offset: u64, len: u32, writable: bool) -> Buffer {
        match writable {
            true => Buffer::writable(self.writable + offset, len),
            false => Buffer::readable(self.readable + offset, len),
        }
    }
}

fn pick(random: &mut Random, lengths: &[u32]) -> u32 {
    lengths[random.below(lengths.len() as u64) as usize]
}

/// Small numbers get further into a protocol than large ones.
fn record(random: &mut Random) -> [u8; RECORD] {
    let [low, high] = match random.below(4) {
        0 => [0, 0],
        1 => [random.below(4), 0],
        2 => [random.below(16), random.below(64)],
        _ => [random.next(), random.next()],
    };
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}
