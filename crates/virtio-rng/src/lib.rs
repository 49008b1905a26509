//! The virtio entropy device (VIRTIO 1.4 §5.4): random bytes for a guest that has just booted and has
//! no entropy of its own.
//!
//! One queue, no features, no configuration. The driver makes buffers available, the device fills them.
//!
//! * [`Rng`]: the device, to be plugged into a transport. [`Rng::limited`] is one that gives so many bytes a
//!   second.
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
//! # What is promised
//!
//! * A buffer never comes back empty, unless it has no room (VIRTIO 1.4 §5.4.6.2). Linux asks for no more
//!   once it has got nothing (`drivers/char/hw_random/virtio-rng.c`: it takes the buffer to be in the ring
//!   still), while a buffer that waits is what it is made for.
//! * So a source that fails gives what it has given so far. If that is nothing, the buffer waits in its
//!   ring, and the source is asked again ten times a second. The log hears of it once.
//! * A limit holds in each time span, across resets as well. A buffer is answered at once with all it may
//!   get: one that waits comes back in one piece.
//! * Whatever waits, nothing is in flight: the device stops at any time, and the buffer is the first one
//!   when it starts again.
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
mod supply;

pub use backend::{EntropySource, HostEntropy};
pub use device::Rng;
pub use supply::MOST_BYTES;
