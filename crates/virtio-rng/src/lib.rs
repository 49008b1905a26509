//! The virtio entropy device (VIRTIO 1.4 §5.4): random bytes for a guest that has just booted and has
//! no entropy of its own.
//!
//! One queue, no features, no configuration. The driver makes buffers available, the device fills them.
//!
//! * [`Rng`]: the device, to be plugged into a transport.
//! * [`EntropySource`]: where the bytes come from. [`HostEntropy`] is the host's kernel; another source
//!   (a hardware generator, a seeded stream for repeatable tests) implements one method.
//!
//! # Life
//!
//! 1. [`Rng::new`] with a source, which is parked in the device.
//! 2. The driver says DRIVER_OK: source and queue move to a worker thread.
//! 3. Each kick fills the buffers that are available, [`MOST_BYTES`] of each at most. The standard lets
//!    a device give less than it was asked for, and a guest that asks for 4 GiB cannot keep the worker
//!    from being stopped.
//! 4. The driver resets: the worker ends, the source is parked again.
//!
//! A source that fails gives what it has given so far, and is asked again with the next buffer.
//!
//! ```
//! use cubie_virtio_core::{DeviceId, VirtioDevice};
//! use cubie_virtio_rng::{HostEntropy, Rng};
//!
//! let device = Rng::new(HostEntropy);
//! assert_eq!(device.id(), DeviceId::RNG);
//! assert_eq!(device.queue_sizes().len(), 1);
//! ```
#![forbid(unsafe_code)]

mod backend;
mod device;
mod handler;

pub use backend::{EntropySource, HostEntropy};
pub use device::Rng;
pub use handler::MOST_BYTES;
