//! A file or block device of the host, in the best way that the host has.

use std::os::fd::BorrowedFd;

use super::{BlockBackend, Image, RawFile, RingFile};
use crate::{Completion, Request, Topology};

/// A disk whose bytes are those of a file or a block device, served by io_uring where the host has it and lets us,
/// and else by system calls that wait.
#[derive(Debug)]
pub enum FileDisk {
    /// By io_uring.
    Ring(Box<RingFile>),
    /// By `preadv` and `pwritev`.
    Plain(RawFile),
}

impl FileDisk {
    /// What is in `image`, for a disk with one queue.
    pub fn new(image: Image) -> Self {
        match RingFile::new(image.clone()) {
            Ok(ring) => Self::Ring(Box::new(ring)),
            Err(error) => {
                tracing::warn!(%error, "no io_uring on this host: a disk's thread waits for it, request by request");
                Self::Plain(RawFile::new(image))
            }
        }
    }

    /// The same for a disk with so many queues, for [`Blk::with_queues`](crate::Blk::with_queues).
    pub fn for_queues(image: &Image, queues: usize) -> Vec<Self> {
        let mut disks = Vec::with_capacity(queues);
        for _ in 0..queues {
            // What was refused once is not asked for again.
            disks.push(match disks.last() {
                Some(Self::Plain(_)) => Self::Plain(RawFile::new(image.clone())),
                Some(Self::Ring(_)) | None => Self::new(image.clone()),
            });
        }
        disks
    }

    fn inner(&self) -> &dyn BlockBackend {
        match self {
            Self::Ring(ring) => &**ring,
            Self::Plain(plain) => plain,
        }
    }
}

impl BlockBackend for FileDisk {
    fn size(&self) -> u64 {
        self.inner().size()
    }

    fn is_read_only(&self) -> bool {
        self.inner().is_read_only()
    }

    fn topology(&self) -> Topology {
        self.inner().topology()
    }

    fn can_discard(&self) -> bool {
        self.inner().can_discard()
    }

    fn can_write_zeroes(&self) -> bool {
        self.inner().can_write_zeroes()
    }

    fn submit(&mut self, request: Request) -> Option<Completion> {
        match self {
            Self::Ring(ring) => ring.submit(request),
            Self::Plain(plain) => plain.submit(request),
        }
    }

    fn start(&mut self) {
        if let Self::Ring(ring) = self {
            ring.start();
        }
    }

    fn complete(&mut self) -> Option<Completion> {
        match self {
            Self::Ring(ring) => ring.complete(),
            Self::Plain(_) => None,
        }
    }

    fn wait(&mut self) -> Option<Completion> {
        match self {
            Self::Ring(ring) => ring.wait(),
            Self::Plain(_) => None,
        }
    }

    fn ready_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner().ready_fd()
    }
}
