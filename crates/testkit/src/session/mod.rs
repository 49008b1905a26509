//! A session: what a driver and a device do to each other, from the side; as text, in a file, and again.
//!
//! Nobody on the device's side is asked, and nothing is done on its threads. [`Journal`] hears of each
//! access to a register, and looks into the rings at three moments, all of them the driver's:
//!
//! * before each store to a register: what has been lent since (a kick is such a store, and so is the
//!   one that starts the device);
//! * when a driver takes a chain back, before it can use the buffers for something else;
//! * when it takes an interrupt.
//!
//! So what is written down depends on what the driver does, and on the time only as far as the driver's
//! own actions do.
//!
//! [`Step`](step::Step) is what is written down. `text` shows it, `recording` has its file, and `run` is a
//! driver that does it again. [`Layout`](layout::Layout) and [`Ring`](ring::Ring) know where the queues lie
//! and how far they have got, for the one who writes down and for the one who plays.

mod difference;
mod error;
mod journal;
mod layout;
mod memory;
mod names;
mod player;
mod recording;
mod ring;
mod run;
mod step;
mod text;
mod walk;

pub use difference::Difference;
pub use error::RecordingError;
pub(crate) use journal::Journal;
pub use player::{Played, Player};
pub(crate) use recording::Header;
pub use recording::Recording;
