//! A disk that is forgotten at the end.

use std::ops::Range;

use super::BlockBackend;
use crate::{Completion, Operation, Request};

/// A disk in the host's memory, for tests and scratch space.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Vec<u8>);

impl MemoryDisk {
    /// A disk that begins with these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    fn at(offset: u64, len: usize) -> Range<usize> {
        // Checked before: it lies in `bytes`, whose length is a usize.
        offset as usize..offset as usize + len
    }
}

impl BlockBackend for MemoryDisk {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn submit(&mut self, mut request: Request) -> Option<Completion> {
        let operation = request.operation();
        let mut data = request.data();
        match operation {
            Operation::Read { offset } => data.write(&self.0[Self::at(offset, data.len())]),
            Operation::Write { offset, .. } => data.read(&mut self.0[Self::at(offset, data.len())]),
            Operation::Flush => 0,
        };
        Some(request.finish(Ok(())))
    }
}
