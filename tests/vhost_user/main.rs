//! Our devices in a guest of QEMU's, on an emulated PC with Debian's kernel: other people's VMM, other people's
//! drivers.
#![cfg(target_arch = "x86_64")]

mod devices;
mod killed;
mod pc;
