//! The virtio network card (VIRTIO 1.4 §5.1), with one pair of queues or several.
//!
//! For machines whose guest needs a network, and for whoever has another kind of cable for it. The
//! card moves frames between its queues and a [`NetBackend`], straight between guest memory and the
//! host: one system call a frame.
//!
//! * [`Net`]: the card. [`Counters`] say what passed, what did not, and what that took ([`Effort`]: kicks,
//!   wake-ups, interrupts, calls, times); [`Link`] plugs the cable in and out.
//! * [`Net::with_pairs`]: a card with several pairs, each with a thread and a host end of its own.
//! * [`Net::use_vhost`]: the host's kernel serves the queues of a card on taps, and this process none.
//! * [`NetBackend`]: the host's end of the cable, to be implemented by anybody. There are [`Tap`] for
//!   the host's network, [`Socket`] for another program (QEMU, passt, another VM), [`Loopback`] for tests and
//!   closed circles, and [`Null`] for benchmarks: a cable that goes nowhere.
//! * [`Captured`]: any of them, with its frames in a file for Wireshark ([`Capture`]).
//! * [`NetHeader`]: what precedes a frame, and says what is still to be done to it: a checksum, or
//!   segments. The card checks it in both directions, so that a host end and a guest see what was
//!   negotiated only.
//! * [`Mac`]: the card's address, given or made from a name.
//!
//! # Life of a card
//!
//! 1. The host end is made, and a [`Net`] with it and an address.
//! 2. The guest's driver starts it: each pair of queues gets a worker, which owns them and their host end,
//!    and the control queue gets one.
//! 3. A frame waits at the host until the guest offers a buffer, and in the ring until the host has
//!    room. With MRG_RXBUF it is read straight into as many buffers as it needs; what there is no buffer
//!    for yet is kept meanwhile. One that cannot be right, does not fit or is not wanted is dropped and
//!    counted, and nothing else is.
//!    A pair may look for the next ones by itself before it sleeps ([`Net::with_polling`]): the guest need
//!    not kick then.
//! 4. The driver commands how many pairs it wants to use, what it takes over from the host, and which
//!    frames it wants to hear of. The control queue's worker posts that on a board before all pairs,
//!    rings their bells, and answers when each has said that it acts by it: no lock and no question on
//!    the road of a frame.
//! 5. A snapshot has what the driver has asked for, and the link as the driver knows it. Frames that wait at
//!    the host stay there. Another card takes it over if it was given the same address and MTU.
//! 6. A driver that would rather have fewer interrupts than early ones has them wait: until there is so much to
//!    tell, or for so long. None is lost with that: a card that stops has told all.
//! 7. The guest resets the card: the host ends are parked until the next start, frames and all.
//!
//! ```
//! use std::time::Duration;
//! use cubie_testkit::{Guest, GuestHal, within};
//! use cubie_virtio_net::{Loopback, Mac, Net};
//! use virtio_drivers::device::net::VirtIONetRaw;
//!
//! within(Duration::from_secs(10), || {
//!     let (cable, far_end) = Loopback::pair().unwrap();
//!     let slot = Guest::new().plug(Box::new(Net::new(cable, Mac::made_from("cubie"))));
//!     let mut eth0 = VirtIONetRaw::<GuestHal, _, 16>::new(slot.transport()).unwrap();
//!     assert_eq!(eth0.mac_address(), Mac::made_from("cubie").bytes());
//!     eth0.send(b"to everybody, from me").unwrap();
//!     let frame = far_end.wait_frame(Duration::from_secs(5));
//!     assert_eq!(frame.as_deref(), Some(&b"to everybody, from me"[..]));
//! });
//! ```

mod backend;
mod board;
mod coalescing;
mod control;
mod counters;
mod device;
mod effort;
mod filter;
mod histogram;
mod kicks;
mod link;
mod mac;
mod pacer;
mod pair;
mod parts;
mod poller;
mod protocol;
mod receive;
mod samples;
mod saved;
mod settings;
mod transmit;
mod vhost;
mod workers;

pub use backend::{
    Capture, CaptureError, Captured, Loopback, NetBackend, Null, Received, Socket, SocketError,
    Tap, TapError,
};
pub use counters::{Counters, Drops, Traffic};
pub use device::{MtuError, Net, PairsError};
pub use effort::Effort;
pub use histogram::Histogram;
pub use link::Link;
pub use mac::{Mac, MacError};
pub use protocol::{Duplex, NetHeader};
pub use samples::Samples;
pub use vhost::VhostError;
