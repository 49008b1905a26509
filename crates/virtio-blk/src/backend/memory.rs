//! A disk that is forgotten at the end.

use std::io::ErrorKind;
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

    /// Carries out what a request asks for; `None` when it lies beyond the end, as after a
    /// [`Resizer`](crate::Resizer) has promised more than there is.
    fn carry_out(&mut self, request: &mut Request) -> Option<()> {
        let operation = request.operation();
        let mut data = request.data();
        match operation {
            Operation::Read { offset } => {
                data.write(self.0.get(range(offset, data.len() as u64)?)?);
            }
            Operation::Write { offset, .. } => {
                data.read(self.0.get_mut(range(offset, data.len() as u64)?)?);
            }
            Operation::Discard { offset, len } | Operation::WriteZeroes { offset, len, .. } => {
                self.0.get_mut(range(offset, len)?)?.fill(0);
            }
            Operation::Flush => {}
        }
        Some(())
    }
}

fn range(offset: u64, len: u64) -> Option<Range<usize>> {
    let (start, len) = (usize::try_from(offset).ok()?, usize::try_from(len).ok()?);
    Some(start..start.checked_add(len)?)
}

impl BlockBackend for MemoryDisk {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn can_discard(&self) -> bool {
        true
    }

    fn can_write_zeroes(&self) -> bool {
        true
    }

    fn submit(&mut self, mut request: Request) -> Option<Completion> {
        let done = self.carry_out(&mut request);
        Some(request.finish(done.ok_or_else(|| ErrorKind::UnexpectedEof.into())))
    }
}
