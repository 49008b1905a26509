//! A guest without a VM, for authors of devices.
//!
//! A device is best tried by a driver that somebody else wrote. This crate puts the guest drivers of
//! the crate [`virtio_drivers`] on top of the real register file and the real rings: guest memory is
//! ordinary memory, registers are read and written word by word, the interrupt is an eventfd. No
//! hypervisor, no root, a few milliseconds a test.
//!
//! * [`Guest`]: the guest's memory. One a thread, since drivers find it by their thread.
//! * [`Socket`]: how a device is going to be driven: with its registers in a page, where each read is
//!   compared with a trapped one, or trapped; with those of the standard or of its legacy.
//! * [`Slot`]: a place that a device is plugged into, with its interrupt, the way back out, and snapshots.
//! * [`RegisterTransport`], [`GuestHal`]: what the drivers of `virtio_drivers` are generic over.
//! * [`RawDriver`]: any buffers at all, in split rings and packed ones, for what no decent driver does.
//! * [`conformance!`]: what every device has to do, as a module of tests for one line.
//! * [`hostile!`]: seeded attacks on a device, which shrink when they succeed. `cargo xtask hostile` has
//!   millions of steps of them.
//! * [`Slot::transcript`]: what a driver and the device did to each other, in lines to read and to compare.
//! * [`Recording`]: the same in a file, to be played against another build of the device by a [`Player`].
//! * [`Faulty`]: a host end that fails as a plan of [`Faults`] has it, in front of any other one.
//! * [`VirtualClock`]: time that only the test moves, for devices that wait.
//! * [`Warnings`]: how often a device complains to the log.
//! * [`within`]: ends a test whose driver waits for ever.
//!
//! # A test, step by step
//!
//! 1. The body goes into [`within`], since most drivers spin until the device answers.
//! 2. [`Guest::new`], then [`Guest::plug`] with the device, or [`Guest::socket`] for another transport.
//! 3. A driver is made of [`Slot::transport`]: it resets, negotiates and sets its queues up. Dropping
//!    the driver resets the device again; another one may follow.
//! 4. [`Slot::save`], and [`Slot::restore`] with a new device: the driver goes on and has noticed nothing.
//! 5. [`Slot::unplug`] stops the device and returns it.
//!
//! Guest memory begins at [`RAM_BASE`], not at 0, and has two regions without a gap between them.
//! Rings lie in the first; buffers begin just before the border, so that chains cross it all the time.
//! [`Guest::with_island`] has a third one behind a hole.
//!
//! # What they said to each other
//!
//! A slot whose socket was [`Socket::recorded`] writes the session down: register accesses by their
//! names, kicks, chains as they were lent and what came back in them, interrupts that were taken,
//! changes of the configuration, and what the test has to add ([`Slot::note`]). [`Slot::transcript`] is
//! that as text, for a person, or for an expect test:
//!
//! ```text
//! lends  queue 0, chain 0: 16 to read (00 00 00 00 00 00 00 00 03 00 …), 512 to write, 1 to write
//! kicks  queue 0
//! takes  queue 0, chain 0: 513 written, 512 at 0 (07 07 07 07 07 07 07 …), 1 at 512 (00)
//! takes  the interrupt
//! ```
//!
//! Each line is what the *driver* does, and is written when it does that: a chain that came back stands
//! where the driver took it, however early the device had finished it, and an interrupt where
//! [`Slot::wait_interrupt`] took it. So the transcript of a driver of one thread that waits for what it
//! asked for is always the same, and nothing is done on the device's threads. It is not the same where the
//! driver itself depends on the time: one that polls registers until they change, or leaves a kick out
//! because the device is still awake.
//!
//! # The same again, with another build
//!
//! [`Slot::recording`] is the session with all its bytes. [`Recording::keep`] has it in a file,
//! [`Recording::play`] does to another device what the driver did to the first, waits for the answers and
//! compares them, as far as the standard has a device decide: see [`Player`]. The first [`Difference`] names
//! the step, with what was recorded and what is there now.
//!
//! What such a session is, and what not:
//!
//! * It knows what passes between a driver and a device. What the *host* did meanwhile (input, frames from
//!   outside, a resized window) is the player's to do again, at the notes ([`Player::on_note`]).
//! * Time is not in it. A device that polls its rings may have seen a chain before the kick; played, it sees
//!   the chain at once when it is lent, and is kicked where it had gone without. How many chains make a
//!   batch, which races were won and when a driver looked too early cannot be repeated.
//! * A chain counts as it was when it was lent. What a driver changes afterwards, in its buffers or
//!   descriptors, is not seen: hostile drivers do that, decent ones do not. Rings are taken to be zero when
//!   a queue is set up, as every driver here makes them.
//! * Not seen are chains that are taken from [`RawDriver::queue`] itself, what is stored to [`Slot::kicks`]
//!   and read from [`Slot::interrupt`]. A chain that is added to [`RawDriver::queue`] itself is seen at the
//!   next access to a register, which in a packed ring may be too late: the device has written over it.
//!   Such a session says so and cannot be played.
//! * Of a buffer, 16 MiB are written down, and 32 MiB of a chain.
//!
//! # A whole test
//!
//! ```
//! use std::time::Duration;
//! use cubie_testkit::{Guest, GuestHal, within};
//! use cubie_virtio_core::{Config, DeviceId, Features, QueueState, Queues, StartError, VirtioDevice};
//! use virtio_drivers::device::blk::VirtIOBlk;
//!
//! /// A disk of 8 sectors that serves nothing yet.
//! struct Shell(Config);
//! impl VirtioDevice for Shell {
//!     fn id(&self) -> DeviceId { DeviceId::BLOCK }
//!     fn features(&self) -> Features { Features::bit(5) }
//!     fn queue_sizes(&self) -> &[u16] { &[64] }
//!     fn config(&self) -> &Config { &self.0 }
//!     fn start(&mut self, _: Features, mut queues: Queues) -> Result<(), StartError> {
//!         queues.take(0).map(drop)
//!     }
//!     fn stop(&mut self) -> Vec<QueueState> { vec![] }
//! }
//!
//! within(Duration::from_secs(10), || {
//!     let guest = Guest::new();
//!     let slot = guest.plug(Box::new(Shell(Config::new(8u64.to_le_bytes()))));
//!     let disk = VirtIOBlk::<GuestHal, _>::new(slot.transport()).unwrap();
//!     assert_eq!((disk.capacity(), disk.readonly()), (8, true));
//! });
//! ```

mod beside;
mod clock;
#[doc(hidden)]
pub mod conformance;
mod deadline;
mod faults;
mod garbage;
mod guest;
mod hal;
#[doc(hidden)]
pub mod hostile;
mod pool;
mod raw;
mod registers;
mod session;
mod slot;
mod socket;
mod transport;
mod warnings;

pub use clock::VirtualClock;
pub use cubie_virtq::driver::Buffer as Descriptor;
pub use deadline::within;
pub use faults::{Fault, Faults, Faulty, Injected};
pub use guest::{Guest, RAM_BASE};
pub use hal::GuestHal;
pub use raw::{RawDriver, Used};
pub use rustix::io::Errno;
pub use session::{Difference, Played, Player, Recording, RecordingError};
pub use slot::Slot;
pub use socket::Socket;
pub use transport::RegisterTransport;
pub use warnings::Warnings;
