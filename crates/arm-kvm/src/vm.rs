//! One machine.

use std::sync::Arc;

use cubie_hv::{Gic, HvError, Start, Vm};
use cubie_mmio_bus::RegisterPage;
use cubie_vm_irq::{Interrupt, Spi};
use kvm_ioctls::{DeviceFd, IoEventAddress, NoDatamatch, VmFd};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::memory::GuestRam;
use crate::page::KvmPage;
use crate::ring::SharedRing;
use crate::slots::Slots;
use crate::{HostLimits, KvmError, KvmVcpu, gic};

/// Execution state that the guest's kernel starts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestMode {
    /// 32-bit, on CPUs that have it at EL1.
    Aarch32,
    /// 64-bit.
    Aarch64,
}

/// What has to be known before a machine is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmConfig {
    /// 32 or 64 bits.
    pub guest: GuestMode,
    /// The interrupt controller and where it lies.
    pub gic: Gic,
    /// How many vCPUs will be made.
    pub vcpus: u8,
}

/// A virtual machine with its interrupt controller in the kernel. Made by
/// [`Kvm::create_vm`](crate::Kvm::create_vm).
#[derive(Debug)]
pub struct KvmVm {
    fd: Arc<VmFd>,
    gic: DeviceFd,
    config: VmConfig,
    limits: HostLimits,
    slots: Arc<Slots>,
    ram: GuestRam,
    ring: SharedRing,
}

impl KvmVm {
    pub(crate) fn new(fd: VmFd, config: VmConfig, limits: HostLimits) -> Result<Self, KvmError> {
        Ok(Self {
            gic: gic::create(&fd, config.gic)?,
            fd: Arc::new(fd),
            config,
            limits,
            slots: Arc::default(),
            ram: GuestRam::default(),
            ring: SharedRing::default(),
        })
    }
}

impl Vm for KvmVm {
    type Vcpu = KvmVcpu;

    fn ipa_bits(&self) -> u32 {
        self.limits.ipa_bits
    }

    fn map_memory(&mut self, memory: &GuestMemoryMmap) -> Result<(), HvError> {
        self.ram.map(&self.fd, &self.slots, memory, self.limits.ipa_bits)
    }

    fn create_vcpu(&mut self, index: u8, start: Start) -> Result<KvmVcpu, HvError> {
        if index >= self.config.vcpus {
            let what = format!("create vCPU {index} of {}", self.config.vcpus);
            return Err(HvError::new(what, std::io::ErrorKind::InvalidInput));
        }
        let (ram, ring) = (self.ram.clone(), self.ring.clone());
        let vcpu = KvmVcpu::new(&self.fd, self.config.guest, index, start, ram, ring)?;
        if self.limits.coalesced_mmio {
            self.ring.map(vcpu.fd())?;
        }
        Ok(vcpu)
    }

    fn start_interrupts(&mut self) -> Result<(), HvError> {
        gic::start(&self.gic)
    }

    fn gic(&self) -> Gic {
        self.config.gic
    }

    fn wire_spi(&self, spi: Spi) -> Result<Interrupt, HvError> {
        let refused = |e| HvError::new(format!("wire {spi}"), e);
        if spi.intid().number() >= gic::INTIDS {
            return Err(refused(std::io::ErrorKind::InvalidInput.into()));
        }
        let line = EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC).map_err(refused)?;
        self.fd.register_irqfd(&line, spi.gsi().number()).map_err(|e| refused(e.into()))?;
        Ok(Interrupt::new(line))
    }

    fn offload_write(
        &self,
        address: u64,
        value: Option<u32>,
        eventfd: &EventFd,
    ) -> Result<(), HvError> {
        let at = IoEventAddress::Mmio(address);
        match value {
            Some(value) => self.fd.register_ioevent(eventfd, &at, value),
            None => self.fd.register_ioevent(eventfd, &at, NoDatamatch),
        }
        .map_err(|e| HvError::new(format!("offload writes to {address:#x}"), e))
    }

    fn coalesce_writes(&self, address: u64, len: u64) -> Result<(), HvError> {
        let what = format!("coalesce writes to {len} bytes at {address:#x}");
        let at = IoEventAddress::Mmio(address);
        match u32::try_from(len) {
            _ if !self.limits.coalesced_mmio => Err(HvError::unsupported(what)),
            Err(_) | Ok(0) => Err(HvError::new(what, std::io::ErrorKind::InvalidInput)),
            Ok(len) => self.fd.register_coalesced_mmio(at, len).map_err(|e| HvError::new(what, e)),
        }
    }

    fn map_readonly_page(&self, address: u64) -> Result<Arc<dyn RegisterPage>, HvError> {
        if !self.limits.readonly_memory {
            return Err(HvError::unsupported(format!("map a read-only page at {address:#x}")));
        }
        Ok(Arc::new(KvmPage::map(&self.fd, &self.slots, address)?))
    }
}
