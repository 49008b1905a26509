//! A machine around a guest program, and one step of it with a deadline.

use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use cubie_arm_kvm::{GuestMode, Kvm, KvmVcpu, KvmVm, VmConfig};
use cubie_hv::{Exit, Gic, Kick, Start, Vcpu, Vm};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::{a32, a64};

/// Where the program starts; its vectors and its second CPU are where the programs say.
pub(crate) const RAM: u64 = 0x4000_0000;
pub(crate) const VECTORS: u64 = RAM + 0x1000;
pub(crate) const SECOND: u64 = RAM + 0x2000;
pub(crate) const DTB: u64 = RAM + 0x3000;
const RAM_SIZE: usize = 0x4000;

/// Where nothing but the test answers.
pub(crate) const DEVICE: u64 = 0x0a00_0000;

pub(crate) const GIC: Gic = Gic::V2 { distributor: 0x01c8_1000, cpu_interface: 0x01c8_2000 };

/// How long a step may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The same programs in both execution states.
pub(crate) struct Programs {
    pub(crate) mode: GuestMode,
    /// Stores, loads and stores back, in all widths that there are.
    pub(crate) io: &'static [u32],
    /// PSCI SYSTEM_OFF.
    pub(crate) system_off: &'static [u32],
    /// PSCI SYSTEM_RESET.
    pub(crate) system_reset: &'static [u32],
    /// PSCI CPU_ON of CPU 1 at [`SECOND`] with context 0x77, then waits.
    pub(crate) cpu_on: &'static [u32],
    /// Stores the context that CPU_ON gave, and its number from MPIDR.
    pub(crate) second: &'static [u32],
    /// Says that it runs, then spins.
    pub(crate) spin: &'static [u32],
    /// Without end, loads a word at [`DEVICE`]` + 0x60` and stores it at [`DEVICE`]` + 0x64`.
    pub(crate) echo: &'static [u32],
    /// Without end, CPU 0 stores 0, 1, 2, … at [`DEVICE`]` + 0x80`; the other one does it 4 bytes on.
    pub(crate) count: [&'static [u32]; 2],
    /// Enables SPI 3 (INTID 35), edge triggered, to CPU 0; says so; then sleeps and takes interrupts.
    pub(crate) take_irq: &'static [u32],
    /// Acknowledges, completes, and stores the INTID. Belongs at `irq_vector`.
    pub(crate) irq_handler: &'static [u32],
    pub(crate) irq_vector: u64,
}

pub(crate) const BOTH: [Programs; 2] = [a64::PROGRAMS, a32::PROGRAMS];

/// What a vCPU came out for, by value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Read(u64, usize),
    Write(u64, Vec<u8>),
    Off,
    Reset,
    Crash(String),
    Kicked,
}

/// A guest stored the word `value` at `address`.
pub(crate) fn wrote(address: u64, value: u32) -> Seen {
    Seen::Write(address, value.to_le_bytes().to_vec())
}

pub(crate) struct Guest {
    pub(crate) vm: KvmVm,
    pub(crate) vcpus: Vec<KvmVcpu>,
    pub(crate) memory: GuestMemoryMmap,
}

impl Guest {
    /// A machine with `code` at [`RAM`], ready to run on `vcpus` vCPUs.
    pub(crate) fn new(mode: GuestMode, vcpus: u8, code: &[&[u32]]) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(RAM), RAM_SIZE)]).unwrap();
        let config = VmConfig { guest: mode, gic: GIC, vcpus };
        let mut vm = Kvm::open().unwrap().create_vm(config).unwrap();
        vm.map_memory(&memory).unwrap();
        let start = |index| match index {
            0 => Start::At { entry: RAM, dtb: DTB },
            _ => Start::Off,
        };
        let vcpus = (0..vcpus).map(|index| vm.create_vcpu(index, start(index)).unwrap()).collect();
        vm.start_interrupts().unwrap();
        let guest = Self { vm, vcpus, memory };
        guest.place(RAM, code);
        guest
    }

    /// Puts more code at `address`.
    pub(crate) fn place(&self, address: u64, code: &[&[u32]]) {
        let bytes: Vec<u8> = code.concat().iter().flat_map(|w| w.to_le_bytes()).collect();
        self.memory.write_slice(&bytes, GuestAddress(address)).unwrap();
    }

    /// Runs vCPU 0 until it comes out.
    pub(crate) fn step(&mut self) -> Seen {
        step(&mut self.vcpus[0])
    }
}

/// Runs `vcpu` until it comes out; loads get 0x5a in each byte. Kicked after [`DEADLINE`].
pub(crate) fn step(vcpu: &mut KvmVcpu) -> Seen {
    step_late(vcpu, &mut |address, _| panic!("a late store to {address:#x}"))
}

/// The same where stores are delayed.
pub(crate) fn step_late(vcpu: &mut KvmVcpu, late: &mut dyn FnMut(u64, &[u8])) -> Seen {
    let _watchdog = watchdog(vcpu.kick());
    match vcpu.run(late).unwrap() {
        Exit::Read { address, data } => {
            data.fill(0x5a);
            Seen::Read(address, data.len())
        }
        Exit::Write { address, data } => Seen::Write(address, data.to_vec()),
        Exit::Off => Seen::Off,
        Exit::Reset => Seen::Reset,
        Exit::Crash(text) => Seen::Crash(text),
        Exit::Kicked => Seen::Kicked,
    }
}

/// Kicks when the deadline passes before the result is dropped.
pub(crate) fn watchdog(kick: impl Kick) -> Sender<()> {
    let (alive, watched) = channel();
    thread::spawn(move || {
        // Dropping the sender ends the wait, too.
        if watched.recv_timeout(DEADLINE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            kick.kick();
        }
    });
    alive
}
