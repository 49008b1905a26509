//! The virtio console (VIRTIO 1.4 §5.3): one port, `hvc0` in a Linux guest.
//!
//! For machines that give a person, a test or another program a line to the guest. The device knows
//! nothing of terminals: it moves bytes between two queues and a [`ConsoleBackend`], straight between
//! guest memory and the host.
//!
//! * [`Console`]: the device. [`Resizer`] tells its guest a new [`WindowSize`].
//! * [`ConsoleBackend`]: the host's end, to be implemented by anybody. There are [`Stream`] for pipes,
//!   sockets and serial lines, and [`Memory`] with a [`Person`] for tests.
//! * [`Terminal`]: the person's keyboard and screen, with raw mode, escapes (Ctrl-A x), signals and
//!   window size; its [`Terminal::backend`] is a [`Stream`]. A UART can use it as well.
//!
//! # Life of a console
//!
//! 1. The host end is made, and a [`Console`] with it and the window's size.
//! 2. The guest's driver starts it: a worker of its own owns both queues and the host end.
//! 3. Input waits at the host until the guest offers a buffer; output waits in the ring until the host
//!    has room. Nobody copies it in between, and nothing is lost or printed twice when the device is
//!    stopped and started again.
//! 4. [`Resizer::resize`] changes the configuration; the guest is interrupted and `stty size` follows.
//! 5. In a snapshot the console says how much of a half printed chain is out, and another one prints the
//!    rest. It has the saved window's size until it is told another.
//! 6. The guest resets the device: the host end is parked until the next start.
//!
//! With a terminal:
//!
//! ```no_run
//! use std::sync::mpsc;
//! use cubie_virtio_console::{Console, Terminal, TerminalEvent};
//!
//! let (sender, events) = mpsc::channel();
//! let terminal = Terminal::open(move |event| {
//!     let _ = sender.send(event); // nobody listens any more: the program is at its end
//! })?;
//! let console = Console::new(terminal.backend()?, terminal.size());
//! let resizer = console.resizer();
//! // … plug `console` in, run the machine …
//! for event in events {
//!     match event {
//!         TerminalEvent::Resized(size) => resizer.resize(size),
//!         TerminalEvent::Status => println!("all is well"),
//!         TerminalEvent::Quit | TerminalEvent::Terminated(_) => break,
//!     }
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! And without:
//!
//! ```
//! use std::time::Duration;
//! use cubie_testkit::{Guest, GuestHal, within};
//! use cubie_virtio_console::{Console, Memory, WindowSize};
//! use virtio_drivers::device::console::VirtIOConsole;
//!
//! within(Duration::from_secs(10), || {
//!     let (memory, person) = Memory::new().unwrap();
//!     let console = Console::new(memory, WindowSize { columns: 80, rows: 25 });
//!     let slot = Guest::new().plug(Box::new(console));
//!     let mut hvc0 = VirtIOConsole::<GuestHal, _>::new(slot.transport()).unwrap();
//!     hvc0.send_bytes(b"login: ").unwrap();
//!     assert_eq!(person.wait_for(7, Duration::from_secs(5)), b"login: ");
//! });
//! ```
#![forbid(unsafe_code)]

mod backend;
mod device;
mod handler;
mod parked;
mod protocol;
mod terminal;

pub use backend::{ConsoleBackend, Memory, Person, Stream};
pub use device::{Console, Resizer};
pub use protocol::WindowSize;
pub use terminal::{Messages, Terminal, TerminalEvent, TerminalWriter, restore_terminals};
