//! Host ends that fail, as middleware before those that do not.

mod block;
mod console;
mod entropy;
mod fault;
mod faulty;
mod net;
mod plan;
mod ready;

pub use fault::Fault;
pub use faulty::Faulty;
pub use plan::{Faults, Injected};
