//! Devices behind a socket, and front-ends at its other end: rust-vmm's, a driver that others wrote, and some that
//! say anything.

mod bad_peers;
mod daemon;
mod devices;
mod disk;
#[cfg(target_env = "gnu")]
mod driver;
#[path = "../dying/mod.rs"]
mod dying;
mod guest;
mod in_flight;
mod wire;
