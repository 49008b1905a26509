//! A request on its way through a backend.

use std::io;

use cubie_virtq::{Chain, Segments};

use crate::protocol::Status;

/// What is to be done. Offsets count bytes from the start of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fill [`Request::data`] from the disk.
    Read {
        /// Where to begin.
        offset: u64,
    },
    /// Put [`Request::data`] on the disk.
    Write {
        /// Where to begin.
        offset: u64,
        /// Finished only when it is on stable storage, as if a flush followed.
        through: bool,
    },
    /// Put on stable storage what was written by requests that are finished.
    Flush,
    /// These bytes are not needed any more: their place may be given back, and reads find anything there. It
    /// may also do nothing.
    Discard {
        /// Where to begin.
        offset: u64,
        /// How many, at least a sector.
        len: u64,
    },
    /// Have reads find zeros here.
    WriteZeroes {
        /// Where to begin.
        offset: u64,
        /// How many bytes, at least a sector.
        len: u64,
        /// Their place may be given back.
        unmap: bool,
        /// As with a write.
        through: bool,
    },
}

impl Operation {
    /// Where it begins; a flush begins anywhere.
    pub(crate) fn offset(self) -> u64 {
        match self {
            Self::Read { offset }
            | Self::Write { offset, .. }
            | Self::Discard { offset, .. }
            | Self::WriteZeroes { offset, .. } => offset,
            Self::Flush => 0,
        }
    }
}

/// A request that was checked: it lies on the disk, in whole sectors, and the disk may be changed if it
/// changes it.
///
/// It owns the guest's buffers. Whoever holds it may read or write them; [`Request::finish`] gives
/// them back.
#[must_use = "the driver waits for every request"]
#[derive(Debug)]
pub struct Request {
    chain: Chain,
    operation: Operation,
    /// Bytes of the writable buffers, without the status.
    room: usize,
}

/// A request that is finished, to be answered by the device.
#[must_use = "the driver waits for every request"]
#[derive(Debug)]
pub struct Completion {
    request: Request,
    pub(crate) result: io::Result<()>,
}

/// A chain with its status set, and the bytes written to it.
pub(crate) struct Answer {
    pub(crate) chain: Chain,
    pub(crate) written: u32,
}

impl Request {
    pub(crate) fn new(mut chain: Chain, operation: Operation) -> Self {
        let room = chain.writable().len();
        Self { chain, operation, room }
    }

    /// What is to be done.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The guest's buffers: to be filled by a read, to be taken by a write. The others have none.
    pub fn data(&mut self) -> Segments<'_> {
        match self.operation {
            Operation::Read { .. } => self.chain.writable(),
            Operation::Write { .. }
            | Operation::Flush
            | Operation::Discard { .. }
            | Operation::WriteZeroes { .. } => self.chain.readable(),
        }
    }

    /// It is not served now: its chain, to be checked anew when its turn comes.
    pub(crate) fn give_back(self) -> Chain {
        self.chain
    }

    /// Nothing touches the buffers any more: it was done, or the host refused.
    pub fn finish(self, result: io::Result<()>) -> Completion {
        Completion { request: self, result }
    }
}

impl Completion {
    pub(crate) fn answer(self) -> Answer {
        let Request { chain, operation, room } = self.request;
        let (status, filled) = match (&self.result, operation) {
            (Ok(()), Operation::Read { .. }) => (Status::Ok, room),
            (Ok(()), _) => (Status::Ok, 0),
            (Err(_), _) => (Status::IoError, 0),
        };
        Answer::new(chain, status, filled, room)
    }
}

impl Answer {
    /// Of the chain's `room` writable bytes before the status, the first `filled` were written.
    ///
    /// The used length counts from the front and has no holes (VIRTIO 1.4 §2.7.8.2): the status, which
    /// is always written and always last, counts only when all before it was.
    pub(crate) fn new(mut chain: Chain, status: Status, filled: usize, room: usize) -> Self {
        chain.set_status(status as u8);
        let written = if filled == room { room + 1 } else { filled };
        // A chain has fewer than 2³² bytes, its status included.
        Self { chain, written: written as u32 }
    }

    /// Nothing but the status was written.
    pub(crate) fn refuse(mut chain: Chain, status: Status) -> Self {
        let room = chain.writable().len();
        Self::new(chain, status, 0, room)
    }
}
