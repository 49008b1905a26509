//! Any virtio device of ours as a daemon that other VMMs use, and other people's daemons as devices of ours: vhost-user,
//! both sides.
//!
//! [`FrontEnd`] is the device whose queues somebody else serves, see [`frontend`]. What follows is the back-end's side.
//!
//! A VMM keeps the guest, its registers and its interrupts; the device's queues are served here, in another
//! process, over memory that both have mapped. Nothing of a request passes through the socket, nor is it copied:
//!
//! ```text
//!   VMM (QEMU, …)                         this daemon
//!   ┌──────────────────────┐  socket     ┌──────────────────────────────────────┐
//!   │ the guest's registers│─ messages ─►│ Server: features, memory, rings      │
//!   │ of virtio-pci        │◄─ answers ──│   │ start / stop (VirtioDevice)      │
//!   └──────────────────────┘             │   ▼                                  │
//!   guest memory ═══ one file ══════════►│ worker (Handler): the queues         │
//!   kick ─── eventfd ───────────────────►│   rings and buffers where they lie   │
//!   irqfd ◄── eventfd ───────────────────│ Interrupt                            │
//!                                        └──────────────────────────────────────┘
//! ```
//!
//! * [`Server`]: one device, one front-end after the other.
//! * [`Listener`]: the socket that they connect to.
//! * [`Dropped`]: why one of them is served no more, in one line.
//!
//! The specification is QEMU's `docs/interop/vhost-user.rst`. The device is the same value that our own transport
//! starts and stops: `start` gets the rings that are on, and the others as if the driver had reset them; each
//! message that changes something which the device works with stops it before and starts it after.
//!
//! # Life of a front-end
//!
//! 1. It connects, asks what is offered and says what of it it wants: the device's features, those of rings, and
//!    those of the protocol: MQ, REPLY_ACK, BACKEND_REQ, CONFIG, INFLIGHT_SHMFD, RESET_DEVICE, CONFIGURE_MEM_SLOTS,
//!    STATUS.
//! 2. It shows the guest's memory (SET_MEM_TABLE, or ADD_MEM_REG and REM_MEM_REG, also while rings are served).
//! 3. For each ring: its size, its parts (by the front-end's own addresses), how far it has got, and its eventfds. A
//!    ring is on when it has a kick and is enabled; the device is started with the first that is.
//! 4. The guest kicks the worker and the worker interrupts the guest, without a word on the socket.
//! 5. GET_VRING_BASE stops a ring when nothing of it is in flight, and says where another start goes on.
//! 6. RESET_DEVICE, or a status of 0, and all begins anew. It leaves, and the next one is served.
//!
//! When the daemon is killed instead, its successor gets the notes on what was in flight of split rings from the front-end,
//! which has kept them, and carries that out first, in its order: [`Inflight`](cubie_virtio_core::Inflight).
//!
//! # Whose fault
//!
//! * The *driver's*: a ring that it has broken is served no more, its error eventfd is written, and the status says
//!   DEVICE_NEEDS_RESET. The log hears of it once a front-end. Other rings go on.
//! * The *front-end's*: it is dropped with a reason, [`Dropped`], and the next one is served. A message is waited for
//!   ten seconds once it has begun, and an answer as long to be taken; an eventfd that is
//!   none is refused, and ours is made not to wait. What a front-end can do nevertheless: cut its own memory short
//!   (`ftruncate`), which ends the daemon by a signal (QEMU seals its memfds against that); share memory of a file
//!   system that answers when it likes; or make an eventfd wait again and let it overflow. The last two hold the
//!   daemon up for as long as it likes. To share memory is to trust: give each VMM a daemon of its own.
//! * The *host's*: [`std::io::Error`].
//!
//! # What is not there
//!
//! Logging of what is written, which live migration takes; polling without a kick; notes on what is in flight of packed
//! rings. A ring that is enabled and then disabled waits; nothing in it is thrown away, not even what a card was to
//! send, which the specification wants. Cards have one pair of queues here: front-ends keep the control queue.
//!
//! # Why the crate `vhost`, and what of it
//!
//! Messages are those of rust-vmm's `vhost`, with its checks, and its front-end is at the other end of our tests.
//! What reads them is our own: `vhost`'s `BackendReqHandler` knows no status and no change of the configuration, and
//! waits for a peer without end. `vhost-user-backend` would serve the rings on threads of its own, by
//! `virtio-queue`: a second data plane beside that of our devices.
//!
//! ```
//! use cubie_vhost_user::{Listener, Server};
//! use cubie_virtio_rng::{HostEntropy, Rng};
//! use rustix::event::{EventfdFlags, eventfd};
//!
//! let folder = tempfile::tempdir()?;
//! let listener = Listener::bind(folder.path().join("rng.sock"))?;
//! let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
//! let mut server = Server::new(Box::new(Rng::new(HostEntropy)));
//! std::thread::scope(|scope| {
//!     let serving = scope.spawn(|| server.run(&listener, &stop));
//!     // qemu-system-x86_64 … -chardev socket,id=c,path=…/rng.sock -device vhost-user-rng-pci,chardev=c
//!     rustix::io::write(&stop, &1u64.to_ne_bytes())?;
//!     serving.join().expect("no panic")
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code)]

mod body;
mod connection;
mod dropped;
mod event;
pub mod frontend;
mod inflight;
mod listener;
mod memory;
mod request;
mod ring;
mod run;
mod server;
mod session;
mod status;

pub use dropped::Dropped;
pub use frontend::{ConnectError, DaemonError, DaemonKind, FrontEnd};
pub use listener::{ListenError, Listener};
pub use server::Server;
