//! The front-end's side: a device whose queues a daemon serves.
//!
//! ```text
//!   this process                               a daemon (qemu-storage-daemon, virtiofsd, ours, …)
//!   ┌──────────────────────────────┐  socket  ┌─────────────────────┐
//!   │ MmioTransport: the registers │          │                     │
//!   │   │ start / stop             │          │                     │
//!   │   ▼                          │ requests │                     │
//!   │ FrontEnd ────────────────────┼─────────►│ features, memory,   │
//!   │ Keeper: is it there?         │◄─────────┼ rings               │
//!   └──────────────────────────────┘          │                     │
//!   guest memory ═════ one memfd ════════════►│ rings and buffers   │
//!   QueueNotify ─────── ioeventfd ───────────►│ kick                │
//!   SPI ◄────────────── irqfd ────────────────┤ call                │
//!                                             └─────────────────────┘
//! ```
//!
//! While the device runs, nothing of it runs here: the guest's kick is the daemon's, and its call is the guest's
//! interrupt. (With trapped registers a thread notes the reason of an interrupt first: the relay.)
//!
//! # Life of it
//!
//! 1. [`FrontEnd::connect`]: features of the device and of rings, those of the protocol, the configuration space. The
//!    guest is offered what both know; feature by feature of the device's kind ([`DaemonKind`]), since a daemon's list
//!    has some that its front-end must serve.
//! 2. Start: features, memory, and for each ring its size, its base, its parts, and eventfds.
//! 3. Stop: GET_VRING_BASE of each ring, which returns when nothing is in flight; a disk's or a folder's daemon that returns
//!    sooner is waited for, until its used index says so.
//! 4. The daemon says that the configuration has changed: it is read again, and the driver is told.
//! 5. The daemon dies. The guest does not notice but that nothing is answered; the next daemon at the same socket is
//!    looked for, more and more rarely (from 100 ms on, to 5 s), and gets all of 2. A split ring goes on where its used
//!    index is: what was not answered is served again. Which requests those are the daemon notes in memory that is kept here
//!    (INFLIGHT_SHMFD); one that does not, and answers out of order, may do one thing twice and leave another. Of a packed
//!    ring nobody knows, nor of a folder's open files: their driver is asked for a reset. A driver may reset and start the device meanwhile.
//!
//! # Whose fault
//!
//! A ring that the driver has broken, as the daemon says by its error eventfd, is the driver's: DEVICE_NEEDS_RESET. A
//! daemon that refuses what is set up, or does not answer for ten seconds, is given up, with the connection; the driver is
//! asked for a reset at most. It may go on writing into guest memory for as long as it lives: to share memory is to trust.

mod daemon;
mod device;
mod error;
mod keeper;
mod kind;
mod link;
mod notes;
mod relay;
mod ring;
mod session;

pub use device::FrontEnd;
pub use error::{ConnectError, DaemonError};
pub use kind::DaemonKind;
