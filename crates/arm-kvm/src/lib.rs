//! The traits of `cubie-hv` on KVM for ARM: virtual machines of AArch64 and AArch32 guests on the
//! kernel's own interrupt controller, for monitors that run on an ARM host. On any other host the
//! crate is empty, so that a workspace with it still builds.
//!
//! [`Kvm`] opens `/dev/kvm` and knows what the host can do ([`HostLimits`]); [`KvmVm`] is one machine;
//! [`KvmVcpu`] one of its processors; [`KvmKick`] gets a processor out of the guest. What a person
//! can do something about is a [`KvmError`] with one clear line; what KVM refuses later on is an
//! `HvError`.
//!
//! 1. [`Kvm::open`], then [`Kvm::create_vm`] with a [`VmConfig`]: whatever this host cannot do is said here.
//! 2. Memory, vCPUs, interrupts and devices in the order of `cubie-hv`.
//! 3. A thread a vCPU runs until an exit ends the machine. KVM itself does PSCI: it turns secondary
//!    vCPUs on and off, and only `SYSTEM_OFF` and `SYSTEM_RESET` come out.
//! 4. Dropping the machine and its vCPUs gives everything back. A restarted guest gets a new machine.
//!
//! Everything that is `unsafe` stands in six small files: `memory.rs` lends guest memory to the
//! kernel, `page.rs` pages that the guest only reads, `cache.rs` cleans the data cache of what these
//! hold, `vcpu_page.rs` maps what the kernel shares with us, `kick.rs` signals threads, `stats.rs` asks for
//! a vCPU's statistics.
//!
//! ```
//! # #[cfg(target_arch = "aarch64")] {
//! use cubie_arm_kvm::{GuestMode, Kvm, VmConfig};
//! use cubie_hv::{Exit, Gic, Start, Vcpu, Vm};
//! use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
//!
//! // mov w0, #8; movk w0, #0x8400, lsl #16; hvc #0: PSCI SYSTEM_OFF.
//! let code = [0x5280_0100_u32, 0x72b0_8000, 0xd400_0002].map(u32::to_le_bytes).concat();
//! let ram = GuestAddress(0x4000_0000);
//! let memory = GuestMemoryMmap::from_ranges(&[(ram, 0x1_0000)])?;
//! memory.write_slice(&code, ram)?;
//!
//! let gic = Gic::V2 { distributor: 0x01c8_1000, cpu_interface: 0x01c8_2000 };
//! let config = VmConfig { guest: GuestMode::Aarch64, gic, vcpus: 1 };
//! let mut vm = Kvm::open()?.create_vm(config)?;
//! vm.map_memory(&memory)?;
//! let mut vcpu = vm.create_vcpu(0, Start::At { entry: ram.0, dtb: 0 })?;
//! vm.start_interrupts()?;
//! assert_eq!(vcpu.run(&mut |_, _| ())?, Exit::Off);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg(target_arch = "aarch64")]

mod cache;
mod error;
mod gic;
mod kick;
mod kvm;
mod memory;
mod page;
mod regs;
mod ring;
mod slots;
mod stats;
mod vcpu;
mod vcpu_page;
mod vm;

pub use error::KvmError;
pub use kick::KvmKick;
pub use kvm::{HostLimits, Kvm};
pub use vcpu::KvmVcpu;
pub use vm::{GuestMode, KvmVm, VmConfig};
