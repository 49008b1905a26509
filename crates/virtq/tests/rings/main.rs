//! The rings from outside.

mod against_rust_vmm;
mod bench;
mod hand;
mod packed;
mod packed_hostile;
mod packets;
mod split;
