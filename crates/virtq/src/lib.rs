//! Virtqueues, the device's end: the rings by which a guest's driver and a device hand each other
//! buffers (VIRTIO 1.4 §2.6, §2.7).
//!
//! The driver makes *chains* of buffers available, the device uses them: reads the first ones, writes
//! the others, and returns each chain with the number of bytes written. Both sides tell each other
//! when to look: the driver *kicks*, the device *interrupts*, and each can tell the other not to.
//!
//! * [`QueueResources`]: where a queue lies, how far it has got, whom to tell. The transport makes it.
//! * [`Virtqueue`]: the queue itself, owned by one thread. Its loop is [`Virtqueue::drain`].
//! * [`Chain`] with its [`Segments`]: one request, its buffers as iovecs into guest memory. Headers are
//!   copied out and checked, payload goes to a file descriptor from where it lies.
//! * [`QueueState`]: what is left when the queue stops; start another with it and it goes on.
//!
//! # Life of a queue
//!
//! 1. The driver sets the ring up, the transport calls the device with [`QueueResources`].
//! 2. [`Virtqueue::new`] resolves the three parts of the ring to host memory, once.
//! 3. At each kick the device drains: chains are served in batches, each batch ends in one update of
//!    the used index and at most one interrupt, then the ring is looked at once more.
//! 4. Requests that take longer are kept ([`Serve::Later`]) and completed by [`Virtqueue::push`] and
//!    [`Virtqueue::signal`].
//! 5. [`Virtqueue::state`] when nothing is in flight, and the value is dropped.
//!
//! # What is promised against a hostile driver
//!
//! Every descriptor is read once, checked, and then used. A chain has at most as many descriptors as
//! the queue, and 2³² − 1 bytes; indirect tables do not nest; buffers outside of memory are found before
//! anybody touches them. The first violation is a [`QueueError`]: it is logged once and latched, the
//! transport is told, and the queue reads as empty from then on. A driver that never stops adding chains
//! costs its own device's time only: `drain` gives way after four batches.
//!
//! ```
//! use std::sync::Arc;
//! use cubie_vm_irq::Interrupt;
//! use cubie_virtq::{Features, QueueParams, QueueResources, QueueState, Drained, Serve, Virtqueue};
//! use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
//! use vmm_sys_util::eventfd::EventFd;
//!
//! // A driver's view: 16 bytes of descriptor, one entry in the available ring.
//! let memory = Arc::new(GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1_0000)])?);
//! memory.write_slice(b"hello", GuestAddress(0x4000))?;
//! memory.write_obj(0x4000u64, GuestAddress(0x1000))?; // address
//! memory.write_obj(5u32, GuestAddress(0x1008))?; // length
//! memory.write_obj(1u16, GuestAddress(0x2002))?; // available index
//!
//! // The device's view.
//! let interrupt = EventFd::new(0)?;
//! let mut queue = Virtqueue::new(QueueResources {
//!     index: 0,
//!     params: QueueParams { size: 4, desc: 0x1000, driver: 0x2000, device: 0x3000 },
//!     state: QueueState::default(),
//!     features: Features::VERSION_1,
//!     kick: EventFd::new(0)?,
//!     interrupt: Interrupt::new(interrupt.try_clone()?),
//!     fault: Interrupt::silent(),
//!     memory: memory.clone(),
//! })?;
//! let end = queue.drain(|mut chain| {
//!     let mut word = [0; 5];
//!     assert_eq!(chain.readable().read(&mut word), 5);
//!     assert_eq!(&word, b"hello");
//!     Serve::Done(chain, 0)
//! });
//! assert_eq!(end, Drained::Empty);
//! assert_eq!(interrupt.read()?, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chain;
mod error;
mod in_order;
mod memory;
mod packed;
mod packet;
mod params;
mod place;
mod queue;
mod ring;
#[cfg(feature = "virtio-queue")]
mod rust_vmm;
mod segments;
mod split;
mod state;
mod walk;

pub use chain::Chain;
pub use error::QueueError;
pub use params::{Features, QueueParams, QueueResources};
pub use queue::{Drained, Serve, Virtqueue};
#[cfg(feature = "virtio-queue")]
pub use rust_vmm::{NotRepresentable, StoppedQueue};
pub use segments::Segments;
pub use state::QueueState;
