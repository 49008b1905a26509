//! A disk without a host.

use super::BlockBackend;
use crate::{Completion, Operation, Request};

/// Zeros that are there to be copied.
const ZEROS: [u8; 4096] = [0; 4096];

/// A disk of zeros that forgets what is written: for measuring what is before a host's disk.
#[derive(Clone, Copy, Debug)]
pub struct NullDisk {
    size: u64,
}

impl NullDisk {
    /// A disk of so many bytes.
    pub fn new(size: u64) -> Self {
        Self { size }
    }
}

impl BlockBackend for NullDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn can_discard(&self) -> bool {
        true
    }

    fn can_write_zeroes(&self) -> bool {
        true
    }

    fn submit(&mut self, mut request: Request) -> Option<Completion> {
        if let Operation::Read { .. } = request.operation() {
            let mut data = request.data();
            while !data.is_empty() {
                let piece = data.len().min(ZEROS.len());
                data.write(&ZEROS[..piece]);
            }
        }
        Some(request.finish(Ok(())))
    }
}
