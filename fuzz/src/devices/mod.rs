//! Whole devices, each between a driver that asks for anything and a host end that does anything.
//!
//! The rings are in order here (others are looked after by `split`, `packed` and the rest): what is arbitrary
//! is what stands in the chains, how it is cut into buffers, and what the host makes of it. A device is
//! started and stopped for each turn, so that every run also shows that nothing is lost in between.
//!
//! Each device stands beside a model written from the standard: what is in its driver's memory, what
//! arrives at the host end and what the driver is told must be what the model says, to the byte.

mod block;
mod console;
mod net;
mod rig;
mod rng;

pub use block::play as block;
pub use console::play as console;
pub use net::play as net;
pub use rng::play as rng;

use arbitrary::Arbitrary;
use cubie_virtq::Features;
use cubie_virtq::driver::Buffer;

use crate::guest::DATA;

/// Steps of a run that are carried out.
const MOST_STEPS: usize = 40;
/// Buffers of a chain.
const MOST_BUFFERS: usize = 31;
/// Bytes of memory at [`DATA`], for what the device reads.
const DATA_LEN: u64 = 0x2000;
/// Memory for what a device writes of its own accord, behind a hole.
const RECEIVE: u64 = 0x8000;
const RECEIVE_LEN: u64 = 0x1000;

/// What was negotiated of the rings.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Rings {
    packed: bool,
    event_idx: bool,
    in_order: bool,
    legacy: bool,
    /// Chains are tables elsewhere.
    indirect: bool,
}

impl Rings {
    fn features(self) -> Features {
        [
            (self.packed && !self.legacy, Features::PACKED),
            (self.event_idx, Features::EVENT_IDX),
            (self.in_order && !self.legacy, Features::IN_ORDER),
            (self.indirect, Features::INDIRECT),
            (!self.legacy, Features::VERSION_1),
        ]
        .into_iter()
        .filter_map(|(chosen, feature)| chosen.then_some(feature))
        .fold(Features::default(), Features::with)
    }
}

/// A piece of the driver's memory.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Piece {
    at: u16,
    len: u16,
}

impl Piece {
    fn within(self, first: u64, bytes: u64) -> (u64, u32) {
        let at = u64::from(self.at) % bytes;
        (first + at, u64::from(self.len).min(bytes - at) as u32)
    }

    fn readable(self) -> Buffer {
        let (address, len) = self.within(DATA, DATA_LEN);
        Buffer::readable(address, len)
    }

    fn writable(self) -> Buffer {
        let (address, len) = self.within(RECEIVE, RECEIVE_LEN);
        Buffer::writable(address, len)
    }
}

/// A chain of nothing in particular.
#[derive(Arbitrary, Clone, Debug)]
struct Pieces {
    readable: Vec<Piece>,
    writable: Vec<Piece>,
}

impl Pieces {
    fn buffers(&self) -> Vec<Buffer> {
        let readable = self.readable.iter().map(|piece| piece.readable());
        readable.chain(self.writable.iter().map(|piece| piece.writable())).collect()
    }
}

/// A run's name among the seeds: the two rarest things that happened, of those in `what`, the rarest last.
pub(crate) fn name(what: &[(&str, usize)]) -> String {
    let happened = what.iter().rev().filter(|(_, count)| *count > 0);
    let parts: Vec<_> = happened.map(|(what, _)| *what).take(2).collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join("-") }
}
