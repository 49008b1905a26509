//! Virtqueues, the device's end: the rings by which a guest's driver and a device hand each other
//! buffers (VIRTIO 1.4 §2.6 to §2.8).
//!
//! The driver makes *chains* of buffers available, the device uses them: reads the first ones, writes
//! the others, and returns each chain with the number of bytes written. Both sides tell each other
//! when to look: the driver *kicks*, the device *interrupts*, and each can tell the other not to.
//!
//! * [`QueueResources`]: where a queue lies, how far it has got, whom to tell. The transport makes it.
//! * [`Virtqueue`]: the queue itself, owned by one thread. Its loop is [`Virtqueue::drain`].
//! * [`Chain`] with its [`Segments`]: one request, its buffers as iovecs into guest memory. Headers are
//!   copied out and checked, payload goes to a file descriptor from where it lies.
//! * [`Room`]: several chains lent as one, for packets that are spread over buffers.
//! * [`QueueState`]: what is left when the queue stops; start another with it and it goes on.
//!
//! Which of the two rings it is, is negotiated; a device does not see the difference.
//!
//! # The split ring
//!
//! ```text
//!     descriptor table              available ring             used ring
//!     (driver writes)               (driver writes)            (device writes)
//!   ┌──────┬─────┬───────┬──────┐   ┌──────────────┐           ┌──────────────┐
//! 0 │ addr │ len │ NEXT  │  2   │   │ flags        │           │ flags        │
//! 1 │ addr │ len │ INDIR │      │   │ index = 2    │           │ index = 1    │
//! 2 │ addr │ len │ WRITE │      │   │ head 0       │           │ head 0, len  │
//! 3 │      │     │       │      │   │ head 1       │◄─ next    │              │◄─ next
//!   └──────┴─────┴───────┴──────┘   │ …            │   avail   │ …            │   used
//!                                   │ used event   │           │ avail event  │
//!                                   └──────────────┘           └──────────────┘
//! ```
//!
//! * A chain is a list of descriptors, linked by NEXT, or one that points to a table of others elsewhere
//!   (INDIRECT). Its name is the index of its first descriptor, its *head*.
//! * The driver puts heads into the available ring and then moves the index; the device puts heads and
//!   lengths into the used ring, in the order of completion, and then moves the index there. Indices run
//!   freely modulo 2¹⁶, the size is a power of two.
//! * Suppression: a flag beside each index, or with EVENT_IDX the index behind which the other side
//!   wants to be told.
//!
//! # The packed ring
//!
//! ```text
//!     descriptor ring (both write), here of size 6              event suppression
//!   ┌──────┬─────┬────┬──────────────────────┐                ┌───────┬────────────┐
//! 0 │      │ len │ id │ AVAIL=1 USED=1       │ used           │ place │ on/off/at  │ driver writes
//! 1 │ addr │ len │    │ AVAIL=1 USED=0 NEXT  │◄─ next used    └───────┴────────────┘
//! 2 │ addr │ len │ id │ AVAIL=1 USED=0 WRITE │   (in flight)  ┌───────┬────────────┐
//! 3 │ addr │ len │ id │ AVAIL=1 USED=0 INDIR │◄─ next avail   │ place │ on/off/at  │ device writes
//! 4 │      │     │    │ AVAIL=0 USED=0       │   (not yet     └───────┴────────────┘
//! 5 │      │     │    │ AVAIL=0 USED=0       │    available)
//!   └──────┴─────┴────┴──────────────────────┘
//! ```
//!
//! * One ring for both directions, of any size up to 32768. A chain is a run of descriptors, also over
//!   the ring's end, or a whole table elsewhere. Its name is the *id* in its last descriptor.
//! * Each side has a wrap counter that begins at 1 and flips with each round. A descriptor is available
//!   when AVAIL equals the driver's counter and USED does not, used when both equal the device's.
//! * The device writes one used descriptor for each chain where the next used one goes, which is over a
//!   descriptor that it has read long since, and passes over as many as the chain had.
//! * A batch becomes visible at once: its first used descriptor, for which the driver waits, is stored
//!   last (VIRTIO 1.4 §2.8.12 lets the device reorder its writes).
//! * Suppression: each side has one word, that asks for all events, for none, or (EVENT_IDX) for the one
//!   at a place.
//!
//! With IN_ORDER on either ring, the queue itself holds back what completes too early, and a run of
//! completed chains whose writable bytes were all written goes back as one used entry.
//!
//! # Life of a queue
//!
//! 1. The driver sets the ring up, the transport calls the device with [`QueueResources`].
//! 2. [`Virtqueue::new`] resolves the three parts of the ring to host memory, once.
//! 3. At each kick the device drains: chains are served in batches, each batch ends in one update of
//!    the used index and at most one interrupt, then the ring is looked at once more.
//! 4. Requests that take longer are kept ([`Serve::Later`]) and completed by [`Virtqueue::push`] and
//!    [`Virtqueue::signal`].
//! 5. A driver that wants fewer interrupts has them wait for more to tell: [`Virtqueue::hold_interrupts`].
//!    Likewise a device that looks at its ring by itself for a while does without kicks:
//!    [`Virtqueue::want_kicks`].
//!    One whose process may be killed notes what is in flight where its successor finds it: [`Virtqueue::tracked`].
//! 6. [`Virtqueue::remap`] when the guest's memory map changes.
//! 7. [`Virtqueue::state`] when nothing is in flight, and the value is dropped.
//!
//! Nothing is allocated for a chain, once as many chains of that length have been in flight.
//!
//! # What is promised against a hostile driver
//!
//! Every descriptor is read once, checked, and then used. A chain has at most as many descriptors as
//! the queue, and 2³² − 1 bytes; indirect tables do not nest; heads and ids are less than the queue's
//! size; no more is in flight than the ring has places; buffers outside of memory are found before
//! anybody touches them. Buffers and indirect tables may lie across adjacent regions of memory, the parts
//! of a ring may not. The first violation is a [`QueueError`]: it is latched, the
//! transport is told once ([`OnFault`]), and the queue reads as empty from then on. A driver that never stops adding chains
//! costs its own device's time only: `drain` gives way after four batches. A table that lies in several
//! regions, or not at a multiple of 8 bytes, is read into a copy of up to 1 MiB, of which each queue has at
//! most one.
//!
//! ```
//! use std::sync::Arc;
//! use cubie_vm_irq::Interrupt;
//! use cubie_virtq::{Features, OnFault, QueueParams, QueueResources, QueueState, Drained, Serve, Virtqueue};
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
//!     fault: OnFault::unheard(),
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
mod chains;
#[cfg(feature = "driver")]
pub mod driver;
mod error;
mod hold;
mod in_order;
mod inflight;
mod memory;
mod packed;
mod packet;
mod params;
mod place;
mod queue;
mod ring;
mod room;
#[cfg(feature = "virtio-queue")]
mod rust_vmm;
mod segments;
mod signals;
mod split;
mod state;
mod walk;

pub use chain::Chain;
pub use error::QueueError;
pub use inflight::Inflight;
pub use params::{Features, OnFault, QueueParams, QueueResources};
pub use queue::{Drained, Serve, Virtqueue};
pub use room::Room;
#[cfg(feature = "virtio-queue")]
pub use rust_vmm::{NotRepresentable, StoppedQueue};
pub use segments::Segments;
pub use signals::Signals;
pub use state::QueueState;
