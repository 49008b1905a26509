//! The virtio NewDevice: a total that its guest adds to.
//!
//! One queue of requests, a configuration with one field, and a total that outlives the driver. It is a
//! skeleton that works: change it, one door at a time.
//!
//! * [`NewDevice`]: the device, to be plugged into a transport.
//! * [`NewDeviceBackend`]: the host's end, open to strangers. [`InMemory`] is a total that is forgotten
//!   at the end.
//!
//! # Life
//!
//! 1. [`NewDevice::new`] with a host end, which is parked in the device.
//! 2. The driver reads the limit and says DRIVER_OK: host end and queue move to a worker thread.
//! 3. Each kick: every available request is checked, given to the host end, and answered.
//! 4. The driver resets: the worker ends, the host end is parked again.
//!
//! A request that makes no sense, and one that the host refuses, is answered with a status, and the queue
//! goes on. A driver that breaks the ring itself stops the device until it resets it.
//!
//! ```
//! use cubie_virtio_core::VirtioDevice;
//! use cubie_virtio_new_device::{InMemory, NewDevice};
//!
//! let device = NewDevice::new(InMemory::default(), 100);
//! assert_eq!(device.queue_sizes().len(), 1);
//! let mut limit = [0; 4];
//! device.config().read(0, &mut limit);
//! assert_eq!(u32::from_le_bytes(limit), 100);
//! ```
#![forbid(unsafe_code)]

mod backend;
mod device;
mod handler;
mod protocol;

pub use backend::{InMemory, NewDeviceBackend};
pub use device::NewDevice;
