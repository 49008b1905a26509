//! The virtio block device (VIRTIO 1.4 §5.2): a disk for a guest.
//!
//! Queues of requests: read, write, flush, discard, write zeroes, and who are you. The device checks each against
//! the disk, takes the sixteen bytes of its header off, and hands the rest to a backend: the payload goes between
//! guest memory and the file from where it lies.
//!
//! * [`Blk`]: the device, to be plugged into a transport. [`DiskLimits`] is how much of it a guest gets, and a
//!   [`Resizer`] tells it of another size.
//! * [`BlockBackend`]: the host's end, open to strangers. [`FileDisk`] is an [`Image`], that is a file or a block
//!   device of the host, served in the best way that there is: by io_uring ([`RingFile`]), or else by system calls
//!   that wait ([`RawFile`]). [`MemoryDisk`] is forgotten at the end, and [`NullDisk`] at once.
//! * [`Request`], [`Operation`], [`Completion`]: what a backend gets, and what it makes of it. A request
//!   owns the guest's buffers and is consumed by its completion, so that it is answered once and
//!   nobody touches guest memory afterwards.
//! * [`Serial`]: the name by which the guest tells its disks apart.
//!
//! # Life
//!
//! 1. [`Image::open`], then [`FileDisk::for_queues`] and [`Blk::with_queues`]: a backend for each queue is parked in
//!    the device.
//! 2. The driver reads the capacity, negotiates and says DRIVER_OK: each queue that it has set up and its
//!    backend move to a worker.
//! 3. Each kick: every available chain becomes a [`Request`] or is refused at once. The backend finishes
//!    it in [`BlockBackend::submit`], or later, in any order, by [`BlockBackend::complete`]. What is beyond the disk's
//!    limit waits in the ring.
//! 4. The driver resets: [`BlockBackend::wait`] until nothing is in flight, then the backends are parked again.
//! 5. In a snapshot, nothing is in flight, and what was answered is in the file: it is to be kept together with
//!    the machine, of which another one refuses a disk of another size.
//!
//! # What is promised
//!
//! * A write that was answered is in the host's page cache, and a flush that was answered has put all
//!   earlier ones on the disk (`fdatasync`). A driver that does not negotiate flush, or has switched to
//!   write-through, gets the latter with each write.
//! * What the host refuses answers that one request with an I/O error, and the queue goes on.
//! * Requests outside of the disk, of a broken length, or of another kind than the standard's touch
//!   nothing. A chain without room for a status comes back empty: there is no place to complain.
//!
//! ```
//! use cubie_virtio_blk::{MemoryDisk, Blk};
//! use cubie_virtio_core::{DeviceId, VirtioDevice};
//!
//! let device = Blk::new(MemoryDisk::new(vec![0; 1 << 20]), "scratch".parse()?);
//! assert_eq!(device.id(), DeviceId::BLOCK);
//! let mut sectors = [0; 8];
//! device.config().read(0, &mut sectors);
//! assert_eq!(u64::from_le_bytes(sectors), 2048);
//! # Ok::<(), cubie_virtio_blk::SerialError>(())
//! ```
mod admission;
mod backend;
mod complaints;
mod device;
mod handler;
mod protocol;
mod request;
mod resizer;
mod serial;
mod terms;
mod throttle;
mod topology;
mod workers;

pub use backend::{
    BlockBackend, FileDisk, Image, ImageOptions, MemoryDisk, NullDisk, OpenError, RawFile, RingFile,
};
pub use device::{Blk, QueuesError};
pub use protocol::SECTOR_SIZE;
pub use request::{Completion, Operation, Request};
pub use resizer::Resizer;
pub use serial::{Serial, SerialError};
pub use throttle::DiskLimits;
pub use topology::Topology;
