//! The disk of a daemon that comes to an end.

use std::sync::mpsc::Sender;

use cubie_virtio_blk::{BlockBackend, Completion, MemoryDisk, Request};

/// A disk that carries out its second request, and comes to an end with all others in flight: it drops them.
pub(crate) struct Dying {
    disk: MemoryDisk,
    got: Sender<usize>,
    held: Vec<Request>,
    count: usize,
}

impl Dying {
    /// `got` hears of each request, how many there were.
    pub(crate) fn new(disk: MemoryDisk, got: Sender<usize>) -> Self {
        Self { disk, got, held: vec![], count: 0 }
    }
}

impl BlockBackend for Dying {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn submit(&mut self, request: Request) -> Option<Completion> {
        self.count += 1;
        // The test may have failed meanwhile.
        let _ = self.got.send(self.count);
        if self.count == 2 {
            return self.disk.submit(request);
        }
        self.held.push(request);
        None
    }
}
