//! A session: what a driver and a device do to each other, from the side.
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

mod journal;
mod layout;
mod memory;
mod names;
mod ring;
mod step;
mod text;
mod walk;

pub(crate) use journal::Journal;
