//! Address ranges to devices.
//!
//! A guest's access to an address without memory leaves the vCPU and ends here: [`Bus`] finds the
//! device whose range holds the address and passes the access on, with the offset in that range.
//! Accesses never fail: hardware has no errors to return. What nobody answers is for the caller to
//! judge ([`Bus::read`] and [`Bus::write`] return `false`).
//!
//! 1. Give each device its range with [`Bus::insert`]; ranges may not overlap.
//! 2. Share the bus between the vCPU threads; a look-up takes no lock, and an access locks only the
//!    device that it reaches, so that a slow device holds up nobody else's. Devices may come and go
//!    meanwhile: [`Bus::remove`] waits for the access that its device is in.
//! 3. [`Slots`] hands out ranges of equal size for devices that do not care where they are.
//! 4. A device whose reads have no side effects can answer them by memory, without an exit: its
//!    [`RegisterPage`] is what the guest reads, and only writes come through the bus.
//!    [`MemoryPage`] is one without a hypervisor, for tests.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use cubie_mmio_bus::{Bus, MmioDevice};
//!
//! struct Latch(u8);
//! impl MmioDevice for Latch {
//!     fn read(&mut self, _offset: u64, data: &mut [u8]) { data.fill(self.0); }
//!     fn write(&mut self, _offset: u64, data: &[u8]) { self.0 = data[0]; }
//! }
//!
//! let bus = Bus::new();
//! bus.insert(0x1000, 0x10, Arc::new(Mutex::new(Latch(0))))?;
//! assert!(bus.write(0x1004, &[7]));
//! let mut data = [0; 2];
//! assert!(bus.read(0x1000, &mut data));
//! assert_eq!(data, [7, 7]);
//! assert!(!bus.read(0x2000, &mut data), "nobody is there");
//! # Ok::<(), cubie_mmio_bus::BusError>(())
//! ```
#![forbid(unsafe_code)]

mod bus;
mod page;
mod place;
mod slots;

pub use bus::{Bus, BusError, MmioDevice};
pub use page::{MemoryPage, RegisterPage};
pub use slots::Slots;
