//! How a virtual device gets the guest's attention.
//!
//! A device must be able to say «look at me» without knowing who listens: an interrupt controller in
//! the kernel (irqfd), another process (vhost-user), a register file that first notes why, or a test.
//! [`Trigger`] is that one verb, [`Interrupt`] the cheap shared handle that devices and rings carry.
//!
//! The second half of the crate is the numbers. ARM names the same wire four ways, and mixing them up
//! costs days: [`Spi`] and [`Ppi`] count from their own zero, [`IntId`] is the number in the GIC's
//! registers, [`Gsi`] is the one in KVM's routing table. Each is a type, and the only ways between
//! them are the conversions written here.
//!
//! 1. The machine wires a line: `let line = Interrupt::new(eventfd);`
//! 2. A device keeps a clone and calls [`Interrupt::trigger`] once a batch.
//! 3. Who can raise the line without us (vhost, a daemon) asks for [`Interrupt::offload`].
//!
//! ```
//! use cubie_vm_irq::{Interrupt, Spi};
//! use vmm_sys_util::eventfd::EventFd;
//!
//! let spi = Spi::new(3).unwrap();
//! assert_eq!(spi.intid().number(), 35);
//!
//! let line = EventFd::new(0)?;
//! let interrupt = Interrupt::new(line.try_clone()?);
//! interrupt.trigger();
//! interrupt.trigger();
//! assert_eq!(line.read()?, 2);
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]

mod number;
mod trigger;

pub use number::{Gsi, IntId, Ppi, Spi};
pub use trigger::{Interrupt, Trigger};
