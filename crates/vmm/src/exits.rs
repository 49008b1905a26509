//! What a machine's vCPUs leave the guest for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cubie_hv::{ExitCounter, Exits, HvError, Vcpu};
use nix::time::{ClockId, clock_gettime};

use crate::layout::VIRTIO;

/// The exits of a machine, for other threads to look at. It may outlive the machine, and then says what it was
/// at the end.
#[derive(Clone)]
pub struct ExitMeter(Arc<Meter>);

struct Meter {
    /// To user space, for the registers of each virtio device. Several vCPUs count, and each exit costs far more.
    devices: Vec<AtomicU64>,
    others: AtomicU64,
    /// Nanoseconds that vCPUs' threads had run when they ended.
    ran: AtomicU64,
    vcpus: Vec<Result<Arc<dyn ExitCounter>, HvError>>,
}

impl ExitMeter {
    /// Of a machine with so many `devices`.
    pub(crate) fn new(devices: usize, vcpus: &mut [impl Vcpu]) -> Self {
        Self(Arc::new(Meter {
            devices: (0..devices).map(|_| AtomicU64::new(0)).collect(),
            others: AtomicU64::new(0),
            ran: AtomicU64::new(0),
            vcpus: vcpus.iter_mut().map(Vcpu::exit_counter).collect(),
        }))
    }

    /// A vCPU has come out for the register at `address`.
    pub(crate) fn count(&self, address: u64) {
        let Meter { devices, others, .. } = &*self.0;
        let device = VIRTIO.index(address).and_then(|slot| devices.get(slot));
        device.unwrap_or(others).fetch_add(1, Ordering::Relaxed);
    }

    /// The thread of a vCPU, on which this is called, is at its end.
    pub(crate) fn end(&self) {
        if let Ok(time) = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID) {
            let ran = Duration::from(time).as_nanos() as u64;
            self.0.ran.fetch_add(ran, Ordering::Relaxed);
        }
    }

    /// Processor time of the vCPUs' threads, `vcpu0` and on, that have ended.
    pub fn time_of_ended(&self) -> Duration {
        Duration::from_nanos(self.0.ran.load(Ordering::Relaxed))
    }

    /// Exits to user space for the registers of the virtio device `slot`, as [`Machine::build`](crate::Machine::build)
    /// was given them.
    pub fn of_device(&self, slot: usize) -> u64 {
        self.0.devices.get(slot).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Exits to user space for other registers: the UART's, and those that are nobody's.
    pub fn of_others(&self) -> u64 {
        self.0.others.load(Ordering::Relaxed)
    }

    /// All exits of all vCPUs, as the hypervisor counts them.
    ///
    /// # Errors
    /// What the hypervisor said of a vCPU, such as that it does not count.
    pub fn of_vcpus(&self) -> Result<Exits, &HvError> {
        let mut all = Exits::default();
        for vcpu in &self.0.vcpus {
            // A counter that fails now has been asked before: what it said first is the reason.
            all = all + vcpu.as_ref()?.exits().unwrap_or_default();
        }
        Ok(all)
    }
}
