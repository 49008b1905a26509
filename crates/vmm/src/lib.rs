//! A thin virtual machine monitor for ARM Linux guests: it decides addresses and starts threads, and
//! leaves everything else to the crates below it.
//!
//! It is for whoever builds a monitor of their own. The hypervisor is any [`cubie_hv::Vm`], the
//! devices are any [`cubie_virtio_core::VirtioDevice`]s; which they are, this crate never knows.
//!
//! * [`layout`] is the map: where memory, UART, interrupt controller and virtio slots lie.
//! * [`loader`] recognises and unpacks kernels, and puts them into memory.
//! * [`fdt`] writes the device tree by which the guest learns of it all.
//! * [`Uart`] is the 16550 that works from a kernel's first word on.
//! * [`Machine`] joins these, runs, and says how it ended ([`Outcome`]).
//!
//! # Life of a machine
//!
//! 1. The kernel is read and identified: [`loader::Kernel::from_bytes`]. This takes time once.
//! 2. The hypervisor makes a fresh, empty machine for as many vCPUs as the [`MachineConfig`] has.
//! 3. [`Machine::build`] lays it out, loads it, and plugs the devices into the virtio slots in order.
//! 4. [`Machine::run`] gives each vCPU a thread («vcpu0», …) and waits. Loads and stores go to the bus;
//!    kicks and interrupts pass by as eventfds. The first vCPU that ends the machine, or a [`Stopper`]
//!    on any thread, gets the others out.
//! 5. `run` returns when every thread has ended and every device has stopped, and hands the devices
//!    back. After [`Outcome::Reset`] the caller goes to 2: the next machine is a *new* one, so nothing
//!    of the old guest can be left in it.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use cubie_hv::scripted::{ScriptedVm, Step};
//! use cubie_vmm::loader::{Format, Kernel};
//! use cubie_vmm::{Machine, MachineConfig, Outcome, Uart, layout};
//!
//! // Kernel::from_bytes makes one from a file; this one is nothing but its place in memory.
//! let load = layout::RAM_BASE + 0x20_0000;
//! let format = Format::Arm64Image;
//! let kernel = Kernel { format, unpacked: None, image: vec![0; 64], load, entry: load, end: load + 64 };
//! let config = MachineConfig {
//!     memory: 64 << 20,
//!     shared_memory: false,
//!     cpus: 1,
//!     kernel,
//!     initrd: None,
//!     command_line: "console=ttyS0".into(),
//!     pin: false,
//!     transports: vec![],
//! };
//! let uart = Arc::new(Mutex::new(Uart::new(Box::new(std::io::stdout()))?));
//! let mut devices = vec![];
//! let mut scripts = vec![
//!     vec![Step::write(layout::UART.start, b"!"), Step::Reset],
//!     vec![Step::Off],
//! ].into_iter();
//! let end = loop {
//!     let vm = ScriptedVm::new(scripts.next().unwrap_or_default()); // in earnest: Kvm::create_vm
//!     let machine = Machine::build(vm, &config, devices, uart.clone())?;
//!     let (outcome, stopped) = machine.run()?;
//!     devices = stopped;
//!     if outcome != Outcome::Reset {
//!         break outcome;
//!     }
//! };
//! assert_eq!(end, Outcome::Off);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod arch;
mod exits;
pub mod fdt;
pub mod layout;
pub mod loader;
mod machine;
mod memory;
mod run;
mod strays;
mod transport;
mod uart;

pub use arch::Arch;
pub use exits::ExitMeter;
pub use machine::{Machine, MachineConfig, MachineError};
pub use run::{Outcome, Remote, Stopper};
pub use transport::{Registers, Transport};
pub use uart::Uart;
