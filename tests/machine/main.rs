//! Whole machines: the example `cubietruck-vm` with real Linux guests of both widths.
//!
//! They run where ARM KVM is: on such a machine natively, elsewhere inside the lab
//! (`cargo xtask test`). Their independent other end is the guest: Debian's kernel and its drivers.
#![cfg(target_arch = "aarch64")]

mod backends;
mod bad_input;
mod bare_storm;
mod boot;
mod cable;
mod coalescing;
mod disk;
mod ethtool;
mod legacy;
mod netpath;
mod network;
mod packed_trapped;
mod protocols;
mod reset;
mod sockios;
mod stalled;
mod standstill;
mod storm;
mod tap_lost;
mod tap_modes;
mod terminal;
mod traffic;
mod under_traffic;
mod user_network;
mod vhost;
mod vm;
