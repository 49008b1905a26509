//! The host's end of the disk.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use arbitrary::Arbitrary;
use cubie_virtio_blk::{BlockBackend, Completion, MemoryDisk, Operation, Request};

/// What becomes of a request.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Fate {
    Now,
    /// When the device stops, and then the last one first.
    Later,
    Refused,
}

/// What is going to happen, and what has happened since the last turn.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) fates: VecDeque<Fate>,
    pub(super) submitted: VecDeque<(Operation, Fate)>,
}

#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Plan>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().expect("nothing has panicked")
    }
}

/// A disk in memory that does as it was told.
pub(super) struct Disk {
    disk: MemoryDisk,
    read_only: bool,
    kept: Vec<Request>,
    plan: Shared,
}

impl Disk {
    pub(super) fn new(bytes: Vec<u8>, read_only: bool, plan: Shared) -> Self {
        Self { disk: MemoryDisk::new(bytes), read_only, kept: vec![], plan }
    }
}

impl BlockBackend for Disk {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn can_discard(&self) -> bool {
        true
    }

    fn can_write_zeroes(&self) -> bool {
        true
    }

    fn submit(&mut self, request: Request) -> Option<Completion> {
        let mut plan = self.plan.lock();
        let fate = plan.fates.pop_front().unwrap_or(Fate::Now);
        plan.submitted.push_back((request.operation(), fate));
        match fate {
            Fate::Now => self.disk.submit(request),
            Fate::Later => {
                self.kept.push(request);
                None
            }
            Fate::Refused => Some(request.finish(Err(io::Error::other("as asked for")))),
        }
    }

    fn wait(&mut self) -> Option<Completion> {
        let request = self.kept.pop()?;
        self.disk.submit(request)
    }
}
