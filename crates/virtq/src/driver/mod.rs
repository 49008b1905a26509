//! The driver's end of a virtqueue: what a guest does, for tests, benchmarks and fuzzers of devices.
//!
//! * [`DriverQueue`]: split or packed by the negotiated features, with event index, indirect
//!   descriptors and in-order completion.
//! * [`Buffer`]: a piece of guest memory. Addresses are not looked at, so that a test can offer any.
//! * [`Used`]: what comes back. [`DriverError`]: what no device may do, latched like the device's
//!   [`QueueError`].
//!
//! # Life of a batch
//!
//! 1. [`DriverQueue::add`] or [`DriverQueue::add_indirect`] for each chain: descriptors are written, the
//!    device sees none of them yet.
//! 2. [`DriverQueue::publish`] shows it all of them at once.
//! 3. [`DriverQueue::wants_kick`] says whether it asked to be told.
//! 4. [`DriverQueue::pop_used`] until there is no more, then [`DriverQueue::enable_interrupts`], and again
//!    from the start of this step when that is true.
//!
//! Nothing is allocated after [`DriverQueue::new`].
//!
//! ```
//! use std::sync::Arc;
//! use cubie_virtq::{Features, QueueParams};
//! use cubie_virtq::driver::{Buffer, DriverQueue};
//! use vm_memory::{GuestAddress, GuestMemoryMmap};
//!
//! let memory = Arc::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)])?);
//! let (params, _) = QueueParams::contiguous(0x1000, 8, Features::VERSION_1);
//! let mut driver = DriverQueue::new(memory, params, Features::VERSION_1)?;
//! let token = driver.add(&[Buffer::readable(0x4000, 16), Buffer::writable(0x5000, 512)]);
//! assert!(token.is_some() && driver.free() == 6);
//! driver.publish();
//! assert!(driver.wants_kick());
//! assert_eq!(driver.pop_used(), None, "there is no device");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chains;
mod layout;
mod packed;
mod split;

use std::sync::Arc;

use vm_memory::GuestMemoryMmap;

use crate::memory::{Table, Translator};
use crate::packed::UPPER;
use crate::walk::{DESC_SIZE, WRITE};
use crate::{Features, QueueError, QueueParams};
use packed::PackedDriver;
use split::SplitDriver;

/// A piece of guest memory lent to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Guest-physical address.
    pub address: u64,
    /// Bytes.
    pub len: u32,
    /// The device writes it; otherwise it reads it. Readable ones come first in a chain (VIRTIO 1.4
    /// §2.7.4.2), which is not checked.
    pub writable: bool,
}

impl Buffer {
    /// A buffer that the device reads.
    pub const fn readable(address: u64, len: u32) -> Self {
        Self { address, len, writable: false }
    }

    /// A buffer that the device writes.
    pub const fn writable(address: u64, len: u32) -> Self {
        Self { address, len, writable: true }
    }

    fn flags(&self) -> u16 {
        if self.writable { WRITE } else { 0 }
    }

    fn room(&self) -> u32 {
        if self.writable { self.len } else { 0 }
    }
}

/// A chain that the device has finished with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// What [`DriverQueue::add`] returned; free for another chain from now on.
    pub token: u16,
    /// Bytes that the device says it has written. A chain that an in-order device passed over counts
    /// as written in full (VIRTIO 1.4 §2.7.9).
    pub written: u32,
}

/// What a device did that no device may do. Latched: the queue then reads as empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// More chains are said to be used than are in flight.
    #[error("the used index jumped to {index} with {next} next and {in_flight} chains in flight")]
    UsedIndex {
        /// What the device wrote.
        index: u16,
        /// What the driver would take next.
        next: u16,
        /// Chains published and not yet returned.
        in_flight: u16,
    },
    /// A chain that is not in flight.
    #[error("chain {0} was returned and is not in flight")]
    Token(u32),
    /// More bytes than the chain has writable ones.
    #[error("{written} bytes are said to be written to chain {token}, which has room for {room}")]
    Length {
        /// Which chain.
        token: u16,
        /// What the device says.
        written: u32,
        /// Writable bytes.
        room: u32,
    },
    /// A chain before its turn, with IN_ORDER negotiated.
    #[error("chain {0} was returned before its turn")]
    Order(u16),
}

#[derive(Debug)]
enum Ring {
    Split(SplitDriver),
    Packed(PackedDriver),
}

/// The driver's end of a virtqueue. Owned by one thread.
#[derive(Debug)]
pub struct DriverQueue {
    ring: Ring,
    memory: Translator,
    error: Option<DriverError>,
}

/// Runs the same method of either ring.
macro_rules! ring {
    ($self:ident, $ring:ident => $call:expr) => {
        match &mut $self.ring {
            Ring::Split($ring) => $call,
            Ring::Packed($ring) => $call,
        }
    };
}

impl DriverQueue {
    /// Zeroes the ring that lies at `params`: packed with [`Features::PACKED`], otherwise split. An error names what is wrong with the size or an address.
    pub fn new(
        memory: Arc<GuestMemoryMmap>,
        params: QueueParams,
        features: Features,
    ) -> Result<Self, QueueError> {
        let mut memory = Translator::new(memory);
        let ring = if features.has(Features::PACKED) {
            Ring::Packed(PackedDriver::new(&params, features, &mut memory)?)
        } else {
            Ring::Split(SplitDriver::new(&params, features, &mut memory)?)
        };
        Ok(Self { ring, memory, error: None })
    }

    /// Number of descriptors.
    pub fn size(&self) -> u16 {
        match &self.ring {
            Ring::Split(ring) => ring.chains.size(),
            Ring::Packed(ring) => ring.chains.size(),
        }
    }

    /// Descriptors that no chain uses.
    pub fn free(&self) -> u16 {
        match &self.ring {
            Ring::Split(ring) => ring.chains.free(),
            Ring::Packed(ring) => ring.chains.free(),
        }
    }

    /// What the device did wrong, once it has.
    pub fn error(&self) -> Option<DriverError> {
        self.error
    }

    /// Writes a chain of these buffers. Its token, or `None` when they are more than
    /// [`DriverQueue::free`] or none at all.
    #[inline]
    pub fn add(&mut self, buffers: &[Buffer]) -> Option<u16> {
        ring!(self, ring => ring.add(buffers))
    }

    /// Writes a chain of one descriptor, which names a table of these buffers at guest address `table`:
    /// 16 bytes for each, in one piece of guest memory, at a multiple of 8. Its token, or `None` when no
    /// descriptor is free, there is no buffer, or no such memory.
    ///
    /// That INDIRECT was negotiated and that the chain is no longer than the queue is the caller's
    /// affair.
    #[inline]
    pub fn add_indirect(&mut self, buffers: &[Buffer], table: u64) -> Option<u16> {
        if self.free() == 0 || buffers.is_empty() {
            return None;
        }
        let part = self.memory.part(("indirect table", DESC_SIZE * buffers.len(), 8), table);
        let window = part.ok()?;
        ring!(self, ring => ring.add_indirect(buffers, table, &window))
    }

    /// Shows the device all chains added so far.
    #[inline]
    pub fn publish(&mut self) {
        ring!(self, ring => ring.publish());
    }

    /// After [`DriverQueue::publish`]: does the device want a kick for what is new since the last time
    /// this was asked?
    #[inline]
    #[must_use = "a device that waits for a kick waits for ever"]
    pub fn wants_kick(&mut self) -> bool {
        ring!(self, ring => ring.wants_kick())
    }

    /// Takes the next chain that the device has finished with. `None` when there is none yet, or when
    /// the device broke the ring, see [`DriverQueue::error`].
    #[inline]
    pub fn pop_used(&mut self) -> Option<Used> {
        if self.error.is_some() {
            return None;
        }
        ring!(self, ring => ring.pop_used()).unwrap_or_else(|error| {
            self.error = Some(error);
            None
        })
    }

    /// Asks the device for an interrupt with the next chain it finishes with. True when there is one
    /// already, for which the interrupt may not come: pop again.
    #[inline]
    #[must_use = "no interrupt comes for what is there already"]
    pub fn enable_interrupts(&mut self) -> bool {
        if self.error.is_some() {
            return false;
        }
        ring!(self, ring => ring.enable_interrupts()).unwrap_or_else(|error| {
            self.error = Some(error);
            false
        })
    }

    /// Tells the device that interrupts are not needed now. Only a hint: they may still come.
    #[inline]
    pub fn disable_interrupts(&mut self) {
        ring!(self, ring => ring.disable_interrupts());
    }

    /// What a kick of queue 0 carries with [`Features::NOTIFICATION_DATA`]: where the next chain will be,
    /// in the upper half (VIRTIO 1.4 §2.9). The lower half is the queue's index: or it in.
    pub fn notification(&self) -> u32 {
        let next = match &self.ring {
            Ring::Split(ring) => ring.next_avail(),
            Ring::Packed(ring) => ring.next_avail(),
        };
        u32::from(next) << 16
    }
}

/// The upper half of a descriptor. Of the two 16-bit fields behind the length, a split ring makes flags
/// and next, a packed one id and flags.
#[inline]
fn upper(len: u32, fields: [u16; 2]) -> u64 {
    u64::from(len) | u64::from(fields[0]) << 32 | u64::from(fields[1]) << 48
}

/// Writes entry `index` of a descriptor table or ring.
#[inline]
fn write_descriptor(table: &Table, index: usize, address: u64, upper: u64) {
    let at = DESC_SIZE * index;
    table.store64(at, address);
    table.store64(at + UPPER, upper);
}
