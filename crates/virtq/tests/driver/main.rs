//! The driver's end of the rings, against devices that share no code with it.

mod bench;
mod both_ends;
mod history;
mod hostile;
mod model;
mod ours;
mod packed;
mod split;
#[cfg(not(miri))]
mod wakeups;
