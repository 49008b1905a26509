//! The rings from outside.

mod against_rust_vmm;
mod bench;
mod exhaustive;
mod hand;
mod held;
mod idle;
mod in_flight;
mod in_order;
mod kicks;
mod packed;
mod packed_hostile;
mod packets;
mod remap;
mod room;
mod split;
