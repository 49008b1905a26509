//! What all virtio devices share (VIRTIO 1.4 §2, §4.2).
//!
//! A device is two things. Its *control plane* is a [`VirtioDevice`]: who it is, what it can do, and
//! two verbs, start and stop. Its *data plane* is a [`Handler`] on a thread of its own, which owns the
//! queues while the device runs. Between the guest and both stands the [`MmioTransport`], the register
//! file by which a driver finds the device, negotiates features and sets up queues.
//!
//! * [`VirtioDevice`]: what you write to make a device; it names no transport and no hypervisor.
//! * [`Config`]: the device's configuration space, changed from any thread, with its generation.
//! * [`Handler`], [`spawn`], [`Running`]: the worker thread. [`Station`] says who holds the host's end:
//!   the parked device or the running worker.
//! * [`Queues`]: the queues that a driver has set up, taken one by one at the start.
//! * [`TransportState`]: how far device and driver have come, as a value, for snapshots.
//! * [`Clock`], [`Timer`]: time, for handlers that wait. [`HostClock`] is the host's, and the testkit has one
//!   that a test moves. [`TokenBucket`] holds a device to a [`RateLimit`].
//!
//! # Life of a device
//!
//! 1. It is made with its host end (a file, a tap) and parked.
//! 2. [`MmioTransport::new`] plugs it in; the guest's driver reads its identity and features.
//! 3. The driver sets DRIVER_OK: [`VirtioDevice::start`] with the negotiated features and the queues.
//!    The device makes a handler of its host end and the queues and spawns it.
//! 4. Kicks arrive as eventfds in the worker; [`Handler::ready`] serves them.
//! 5. The driver takes one queue back (RING_RESET): the device is stopped, and started with that queue
//!    idle and the others in the states that it returned. Once more when the queue is set up anew.
//! 6. The driver resets, or the machine stops: [`VirtioDevice::stop`] joins the worker, parks the host
//!    end again and returns how far each queue has got. Nothing is in flight any more.
//!
//! # A snapshot
//!
//! 1. The vCPUs rest, and [`MmioTransport::save`] stops the device: what it says, together with guest
//!    memory, is all that there is. [`MmioTransport::resume`] and the device goes on.
//! 2. Elsewhere or later, a device is made in the same way and plugged into a transport like the first, over
//!    memory with the same content. [`MmioTransport::restore`] takes over what was saved, or says why not.
//! 3. [`MmioTransport::resume`], and the driver goes on. Each queue is kicked once, and what the driver
//!    has not acknowledged interrupts again: neither gets lost between two machines.
//!
//! What only the device knows it says in [`VirtioDevice::save`]. Most say nothing: queues, features and
//! configuration are kept for them.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use cubie_virtio_core::{Config, DeviceId, Features, MmioTransport, QueueState, Queues, StartError, VirtioDevice};
//! use cubie_mmio_bus::MmioDevice;
//! use cubie_vm_irq::Interrupt;
//! use vm_memory::{GuestAddress, GuestMemoryMmap};
//!
//! struct Null(Config);
//! impl VirtioDevice for Null {
//!     fn id(&self) -> DeviceId { DeviceId(42) }
//!     fn features(&self) -> Features { Features::default() }
//!     fn queue_sizes(&self) -> &[u16] { &[64] }
//!     fn config(&self) -> &Config { &self.0 }
//!     fn start(&mut self, _: Features, mut queues: Queues) -> Result<(), StartError> {
//!         queues.take(0).map(drop)
//!     }
//!     fn stop(&mut self) -> Vec<QueueState> { vec![] }
//! }
//!
//! let memory = Arc::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)])?);
//! let device = Box::new(Null(Config::new(b"hi".to_vec())));
//! let mut registers = MmioTransport::new(device, memory.clone(), Interrupt::silent())?;
//! let mut word = [0; 4];
//! registers.read(0, &mut word);
//! assert_eq!(&word, b"virt");
//! registers.read(8, &mut word);
//! assert_eq!(u32::from_le_bytes(word), 42);
//!
//! // A snapshot goes on in a device that was made in the same way.
//! let state = registers.save();
//! let device = Box::new(Null(Config::new(b"hi".to_vec())));
//! let mut elsewhere = MmioTransport::new(device, memory, Interrupt::silent())?;
//! elsewhere.restore(&state)?;
//! elsewhere.resume()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod clock;
mod config;
mod device;
mod event_loop;
mod handler;
mod mmio;
mod shared_memory;
mod state;
mod station;
mod status;
mod token_bucket;
mod worker;

pub use clock::{Clock, HostClock, Timer};
pub use config::Config;
pub use cubie_virtq::{Features, Inflight, OnFault, QueueResources, QueueState, Virtqueue};
pub use device::{DeviceId, Queues, StartError, VirtioDevice};
pub use handler::{Handler, Idle, Source};
pub use mmio::{
    DELAYABLE, INTERRUPT_ACK, Interface, MMIO_SIZE, MmioTransport, PLAIN_ACK, QUEUE_NOTIFY,
};
pub use shared_memory::SharedMemory;
pub use state::{QueueStage, RestoreError, SavedQueue, TransportState};
pub use station::Station;
pub use token_bucket::{RateLimit, TokenBucket};
#[doc(hidden)]
pub use worker::serve_at_start;
pub use worker::{Running, spawn};
