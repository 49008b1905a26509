//! Chains and bytes that no protocol knows, and numbers to choose them by.

use cubie_virtq::driver::Buffer;
use vm_memory::Bytes;

use crate::Guest;

/// Lengths around those of headers, sectors, frames and pages.
const LENGTHS: [u32; 14] = [0, 1, 2, 4, 8, 10, 12, 16, 17, 511, 512, 513, 1526, 4096];
/// Bytes of each half of an [`Arena`].
const HALF: usize = 64 << 10;
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
        let arena = Self { readable: guest.buffer(HALF).0, writable: guest.buffer(HALF).0 };
        let bytes: Vec<u8> = (0..HALF / RECORD).flat_map(|_| record(random)).collect();
        let at = vm_memory::GuestAddress(arena.readable);
        guest.memory().write_slice(&bytes, at).expect("the arena lies in memory");
        arena
    }

    /// Any address within.
    pub(crate) fn at(&self, offset: u32) -> u64 {
        // The last bytes are left out: no store leaves the arena.
        let offset = u64::from(offset) % (2 * HALF as u64 - 16);
        match offset.checked_sub(HALF as u64 - 8) {
            None => self.readable + offset,
            Some(offset) => self.writable + offset,
        }
    }

    /// A chain of at most `most` buffers.
    pub(crate) fn chain(&self, random: &mut Random, most: u16) -> Vec<Buffer> {
        let most = u64::from(most).min(LONG);
        let count = match random.below(8) {
            0 => most,
            _ => 1 + random.below(most.min(SHORT)),
        };
        let readable = random.below(count + 1);
        (0..count).map(|n| self.buffer(random, n >= readable)).collect()
    }

    fn buffer(&self, random: &mut Random, writable: bool) -> Buffer {
        let len = LENGTHS[random.below(LENGTHS.len() as u64) as usize];
        let mut offset = random.below(HALF as u64 - u64::from(len));
        if random.below(4) != 0 {
            offset -= offset % RECORD as u64;
        }
        match writable {
            true => Buffer::writable(self.writable + offset, len),
            false => Buffer::readable(self.readable + offset, len),
        }
    }
}

/// Small numbers get further into a protocol than large ones.
fn record(random: &mut Random) -> [u8; RECORD] {
    let [low, high] = match random.below(4) {
        0 => [0, 0],
        1 => [random.below(16), 0],
        2 => [random.below(16), random.below(64)],
        _ => [random.next(), random.next()],
    };
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}
