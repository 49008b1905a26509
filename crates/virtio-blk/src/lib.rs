//! The virtio block device (VIRTIO 1.4 §5.2): a disk for a guest.
//!
//! One queue of requests: read, write, flush, and who are you. The device checks each against the disk,
//! takes the sixteen bytes of its header off, and hands the rest to a backend: the payload goes between
//! guest memory and the file by one system call, from where it lies.
//!
//! * [`Blk`]: the device, to be plugged into a transport.
//! * [`BlockBackend`]: the host's end, open to strangers. [`RawFile`] is a file or a block device of the
//!   host, [`MemoryDisk`] is forgotten at the end.
//! * [`Request`], [`Operation`], [`Completion`]: what a backend gets, and what it makes of it. A request
//!   owns the guest's buffers and is consumed by its completion, so that it is answered once and
//!   nobody touches guest memory afterwards.
//! * [`Serial`]: the name by which the guest tells its disks apart.
//!
//! # Life
//!
//! 1. [`RawFile::open`], then [`Blk::new`]: the file is parked in the device.
//! 2. The driver reads the capacity, negotiates and says DRIVER_OK: file and queue move to a worker.
//! 3. Each kick: every available chain becomes a [`Request`] or is refused at once. The backend finishes
//!    it in [`BlockBackend::submit`], or later, in any order, by [`BlockBackend::complete`].
//! 4. The driver resets: [`BlockBackend::wait`] until nothing is in flight, then the file is parked again.
//! 5. In a snapshot, nothing is in flight, and what was answered is in the file: it is to be kept together with
//!    the machine, of which another one refuses a disk of another size.
//!
//! # What is promised
//!
//! * A write that was answered is in the host's page cache, and a flush that was answered has put all
//!   earlier ones on the disk (`fdatasync`). A driver that does not negotiate flush gets the latter with
//!   each write.
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
#![forbid(unsafe_code)]

mod backend;
mod device;
mod handler;
mod protocol;
mod request;
mod serial;

pub use backend::{BlockBackend, MemoryDisk, OpenError, RawFile};
pub use device::Blk;
pub use protocol::SECTOR_SIZE;
pub use request::{Completion, Operation, Request};
pub use serial::{Serial, SerialError};
