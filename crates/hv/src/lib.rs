//! What a virtual machine monitor needs from a hypervisor, and nothing else.
//!
//! Two traits and a few values: a [`Vm`] maps memory, makes vCPUs and wires interrupts; a [`Vcpu`]
//! runs until an [`Exit`] needs somebody. `cubie-arm-kvm` is these on KVM for ARM, [`scripted`] is a
//! fake that plays a list of exits, so that a machine can be tested where no hypervisor is.
//!
//! The order matters on ARM, and is the same everywhere:
//!
//! 1. [`Vm::map_memory`] gives the guest its RAM.
//! 2. [`Vm::create_vcpu`] once for each vCPU; the first one starts at the kernel, the others wait for PSCI.
//! 3. [`Vm::start_interrupts`] closes the set-up of the interrupt controller (it must know all vCPUs).
//! 4. [`Vm::wire_spi`], [`Vm::offload_write`], [`Vm::coalesce_writes`] and [`Vm::map_readonly_page`] join
//!    devices to the guest.
//! 5. One thread a vCPU calls [`Vcpu::run`] in a loop; a [`Kick`] gets it out.
//!
//! ```
//! use cubie_hv::{Exit, Vcpu, Vm, Start, scripted::{ScriptedVm, Step}};
//! use vm_memory::{GuestAddress, GuestMemoryMmap};
//!
//! let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0x4000_0000), 0x1000)])?;
//! let mut vm = ScriptedVm::new(vec![Step::write(0x1c2_8000, b"!"), Step::Off]);
//! vm.map_memory(&memory)?;
//! let mut vcpu = vm.create_vcpu(0, Start::At { entry: 0x4000_8000, dtb: 0x4800_0000 })?;
//! vm.start_interrupts()?;
//! let mut late = |_: u64, _: &[u8]| unreachable!("no writes are coalesced");
//! assert!(matches!(vcpu.run(&mut late)?, Exit::Write { address: 0x1c2_8000, data: b"!" }));
//! assert!(matches!(vcpu.run(&mut late)?, Exit::Off));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod error;
mod exits;
pub mod scripted;
mod vcpu;
mod vm;

pub use error::HvError;
pub use exits::{ExitCounter, Exits};
pub use vcpu::{Exit, Kick, Start, Vcpu};
pub use vm::{Gic, Vm};
