//! Our registers and drivers that others wrote at one end, daemons at the other: QEMU's storage daemon, and ours.

mod conformance;
mod disk;
#[path = "../dying/mod.rs"]
mod dying;
mod folder;
mod in_flight;
mod ours;
mod refusals;
mod served;
