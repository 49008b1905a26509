//! What is varied.

use std::fmt;

/// Descriptors of a queue.
pub(crate) const SIZE: u16 = 256;
/// Bytes in front of a frame.
pub(crate) const HEADER: u32 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the guest.
    Transmit,
    /// To the guest.
    Receive,
}

/// One combination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) direction: Direction,
    /// Bytes of a frame.
    pub(crate) frame: u32,
    /// Frames of a batch.
    pub(crate) batch: u16,
    /// Bytes of a buffer.
    pub(crate) buffer: u32,
}

impl Case {
    /// All of them: the smallest frame, the longest that need not be cut, and the longest that has to be
    /// (64 KiB less a byte of IP and what Ethernet adds).
    pub(crate) fn all() -> Vec<Self> {
        let directions = [Direction::Transmit, Direction::Receive];
        // Linux's buffers for frames are about as large; what is to be cut lies in pages.
        let frames = [(64, 64, 1536), (1514, 64, 1536), (65_549, 15, 4096)];
        let all = directions.map(|direction| {
            frames.map(|(frame, batch, buffer)| Self { direction, frame, batch, buffer })
        });
        all.concat()
    }

    /// Buffers of a frame: one behind the other, a received one in chains of their own.
    pub(crate) fn buffers(&self) -> u16 {
        (HEADER + self.frame).div_ceil(self.buffer) as u16
    }

    /// A frame that the host has to cut.
    pub(crate) fn is_cut(&self) -> bool {
        self.buffers() > 1
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Transmit => "transmit",
            Direction::Receive => "receive",
        };
        match self.is_cut() {
            true => write!(f, "{direction}, 64 KiB in {} buffers", self.buffers()),
            false => write!(f, "{direction}, {} bytes", self.frame),
        }
    }
}
