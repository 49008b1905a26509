//! Real guests of a few instructions on real KVM, in both execution states.
#![cfg(target_arch = "aarch64")]

mod a32;
mod a64;
mod boot;
mod coalesced;
mod events;
mod harness;
mod kick;
mod limits;
mod page;
