//! The host's end of a disk.

mod file_disk;
mod image;
mod memory;
mod null;
mod raw_file;
mod ring_file;

use std::os::fd::BorrowedFd;

pub use file_disk::FileDisk;
pub use image::{Image, ImageOptions, OpenError};
pub use memory::MemoryDisk;
pub use null::NullDisk;
pub use raw_file::RawFile;
pub use ring_file::RingFile;

use crate::{Completion, Request, Topology};

/// Where a disk's bytes are.
///
/// Requests are finished at once, by [`BlockBackend::submit`], or later: then they come out of
/// [`BlockBackend::complete`] in any order, and [`BlockBackend::ready_fd`] says when. A backend may mix
/// both, and one that never has anything in flight implements two methods. At most as many requests are
/// in flight as the queue has descriptors.
///
/// Methods that change it are called by the worker's thread, or while there is none. A disk with several queues
/// has a backend, and a worker, for each; what one has finished, the others find there, and a flush is about
/// all of them.
pub trait BlockBackend: Send + 'static {
    /// Bytes of the disk, asked for when the device is made; [`Resizer`](crate::Resizer) tells of changes. What
    /// is left of them after the last whole sector is out of the guest's reach.
    fn size(&self) -> u64;

    /// True when no write shall get here.
    fn is_read_only(&self) -> bool {
        false
    }

    /// How it likes to be used. Asked for when the device is made.
    fn topology(&self) -> Topology {
        Topology::default()
    }

    /// Whether it takes [`Operation::Discard`](crate::Operation::Discard). Asked for when the device is made.
    fn can_discard(&self) -> bool {
        false
    }

    /// Whether it takes [`Operation::WriteZeroes`](crate::Operation::WriteZeroes). Asked for when the device
    /// is made.
    fn can_write_zeroes(&self) -> bool {
        false
    }

    /// Takes a request: returns it finished, or keeps it for [`BlockBackend::complete`].
    fn submit(&mut self, request: Request) -> Option<Completion>;

    /// No more requests for now: start those that were kept, by one system call.
    fn start(&mut self) {}

    /// The next request that is finished, without waiting.
    fn complete(&mut self) -> Option<Completion> {
        None
    }

    /// Waits for the next request to be finished; `None` when nothing is in flight. Called when the
    /// device stops.
    fn wait(&mut self) -> Option<Completion> {
        None
    }

    /// Becomes readable when [`BlockBackend::complete`] has something new, for edge-triggered epoll.
    fn ready_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
