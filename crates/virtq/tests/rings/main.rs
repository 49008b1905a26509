//! The rings from outside.

mod against_rust_vmm;
mod bench;
mod packets;
mod split;
