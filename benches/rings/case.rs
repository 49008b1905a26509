//! What is varied.

use std::fmt;

/// Descriptors of a queue.
pub(crate) const SIZE: u16 = 256;
/// Bytes of a buffer.
pub(crate) const BUFFER: u32 = 1024;

/// One combination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Buffers of a chain. The first half is readable, the rest writable.
    pub(crate) length: u16,
    /// Chains between two looks of the device.
    pub(crate) batch: u16,
    /// Whether the event index is negotiated.
    pub(crate) event_idx: bool,
    /// Memory regions; a chain's buffers lie in one after the other.
    pub(crate) regions: u16,
}

impl Case {
    /// All of them.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![];
        for regions in [1, 4] {
            for event_idx in [true, false] {
                for batch in [1, 32] {
                    for length in [1, 2, 4] {
                        all.push(Self { length, batch, event_idx, regions });
                    }
                }
            }
        }
        all
    }

    /// Worth a line for people: Linux negotiates the event index, and most guests have one region.
    pub(crate) fn is_usual(&self) -> bool {
        self.event_idx && self.regions == 1
    }

    /// Chains in a turn of the ring.
    pub(crate) fn chains(&self) -> u16 {
        SIZE / self.length
    }

    /// Batches in a turn of the ring.
    pub(crate) fn batches(&self) -> u16 {
        self.chains() / self.batch
    }

    /// Where the buffer of descriptor `index` lies in guest memory.
    pub(crate) fn buffer(&self, index: u16) -> u64 {
        let (region, place) = (index % self.regions, index / self.regions);
        crate::memory::region(region) + 0x1_0000 + u64::from(place) * u64::from(BUFFER)
    }

    /// True if the device writes to the buffer of descriptor `index`.
    pub(crate) fn writable(&self, index: u16) -> bool {
        index % self.length >= self.length / 2
    }

    /// True if the descriptor `index` is not the last one of its chain.
    pub(crate) fn has_next(&self, index: u16) -> bool {
        !(index + 1).is_multiple_of(self.length)
    }

    /// What the device says that it has written.
    pub(crate) fn written(&self) -> u32 {
        u32::from(self.length - self.length / 2) * BUFFER
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, batch, event_idx, regions } = self;
        let batch = if *batch == 1 { "single".into() } else { format!("batches of {batch}") };
        let event_idx = if *event_idx { "event index" } else { "flags" };
        write!(f, "chains of {length}, {batch}, {event_idx}, regions: {regions}")
    }
}
