//! The run loop's one step: into the guest and out again, with the reason.

use std::sync::Arc;

use cubie_hv::{Exit, ExitCounter, HvError, Start, Vcpu};
use kvm_bindings::{
    KVM_ARM_VCPU_EL1_32BIT, KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2, KVM_SYSTEM_EVENT_CRASH,
    KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_vcpu_init,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};

use crate::memory::GuestRam;
use crate::ring::SharedRing;
use crate::stats::VcpuStats;
use crate::{GuestMode, KvmKick, regs};

/// One vCPU of a [`KvmVm`](crate::KvmVm). Dropping it while the machine lives leaves the guest with a CPU
/// that never runs again.
#[derive(Debug)]
pub struct KvmVcpu {
    fd: VcpuFd,
    kick: KvmKick,
    /// What the guest wrote, or will get.
    data: [u8; 8],
    /// True when the guest waits for `data`.
    reading: bool,
    ring: SharedRing,
    /// Once somebody has asked for them.
    stats: Option<Arc<VcpuStats>>,
    _ram: GuestRam,
}

impl KvmVcpu {
    pub(crate) fn new(
        vm: &VmFd,
        guest: GuestMode,
        index: u8,
        start: Start,
        ram: GuestRam,
        ring: SharedRing,
    ) -> Result<Self, HvError> {
        let create = |e| HvError::new(format!("create vCPU {index}"), e);
        let fd = vm.create_vcpu(index.into()).map_err(create)?;
        let mut init = kvm_vcpu_init::default();
        vm.get_preferred_target(&mut init).map_err(create)?;
        init.features[0] |= features(guest, start);
        fd.vcpu_init(&init).map_err(create)?;
        if let Start::At { entry, dtb } = start {
            regs::set_boot(&fd, guest, entry, dtb)?;
        }
        let (kick, stats) = (KvmKick::new(&fd)?, None);
        Ok(Self { kick, fd, data: [0; 8], reading: false, ring, stats, _ram: ram })
    }

    pub(crate) fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    fn crash(&self, why: &str) -> Exit<'static> {
        Exit::Crash(format!("{why}: {}", regs::describe(&self.fd)))
    }

    fn broken(&self, what: &str, source: impl Into<std::io::Error>) -> HvError {
        HvError::new(format!("{what} ({})", regs::describe(&self.fd)), source)
    }
}

/// Feature bits of `KVM_ARM_VCPU_INIT` (KVM API 4.82).
fn features(guest: GuestMode, start: Start) -> u32 {
    let mut bits = 1 << KVM_ARM_VCPU_PSCI_0_2;
    if guest == GuestMode::Aarch32 {
        bits |= 1 << KVM_ARM_VCPU_EL1_32BIT;
    }
    if start == Start::Off {
        bits |= 1 << KVM_ARM_VCPU_POWER_OFF;
    }
    bits
}

impl Vcpu for KvmVcpu {
    type Kick = KvmKick;

    fn run(&mut self, late: &mut dyn FnMut(u64, &[u8])) -> Result<Exit<'_>, HvError> {
        if std::mem::take(&mut self.reading) {
            self.fd.get_kvm_run().__bindgen_anon_1.mmio.data = self.data;
        }
        self.kick.enter();
        let exit = self.fd.run();
        self.ring.carry_out(late);
        match exit {
            Ok(VcpuExit::MmioRead(address, data)) => {
                let len = data.len();
                self.reading = true;
                self.data = [0; 8];
                let data = &mut self.data[..len];
                Ok(Exit::Read { address, data })
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                let copy = &mut self.data[..data.len()];
                copy.copy_from_slice(data);
                Ok(Exit::Write { address, data: copy })
            }
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => Ok(Exit::Off),
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => Ok(Exit::Reset),
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_CRASH, _)) => {
                Ok(self.crash("the guest reports that it has crashed"))
            }
            Ok(VcpuExit::Intr) => Ok(self.kicked()),
            Ok(other) => {
                let what = format!("run a vCPU: KVM gave up with {other:?}");
                Err(self.broken(&what, std::io::ErrorKind::Other))
            }
            Err(e) => self.failed(e),
        }
    }

    fn kick(&self) -> KvmKick {
        self.kick.clone()
    }

    fn exit_counter(&mut self) -> Result<Arc<dyn ExitCounter>, HvError> {
        let stats = match self.stats.take() {
            Some(stats) => stats,
            None => Arc::new(VcpuStats::open(&self.fd)?),
        };
        self.stats = Some(Arc::clone(&stats));
        Ok(stats)
    }
}

impl KvmVcpu {
    fn kicked(&self) -> Exit<'static> {
        self.kick.take();
        Exit::Kicked
    }

    fn failed(&self, error: kvm_ioctls::Error) -> Result<Exit<'static>, HvError> {
        match error.errno() {
            libc::EINTR => Ok(self.kicked()),
            // The CPU does not say what a load or store with write-back or of a pair wants, and KVM
            // does not decode it: no device can answer (KVM API, KVM_CAP_ARM_NISV_TO_USER).
            libc::ENOSYS => Ok(self
                .crash("the guest touched a device with an instruction that cannot be emulated")),
            _ => Err(self.broken("run a vCPU", error)),
        }
    }
}

impl Drop for KvmVcpu {
    fn drop(&mut self) {
        self.kick.leave();
        self.stats.iter().for_each(|stats| stats.close());
    }
}
