//! What the vCPUs of a guest's machines leave it for: there is another machine after each reboot.

use std::time::Duration;

use cubie::hv::Exits;
use cubie::vmm::{ExitMeter, layout};

/// The machine that the guest is in, and what those before it came to.
pub(crate) struct Machines {
    now: Option<ExitMeter>,
    before: Sum,
}

/// What machines came to that have ended.
struct Sum {
    /// Exits for the registers of each device.
    devices: Vec<u64>,
    /// Exits of all vCPUs, if all could tell.
    exits: Option<Exits>,
    /// Time of the vCPUs' threads that have ended.
    ran: Duration,
}

impl Machines {
    /// There is none yet.
    pub(crate) fn new() -> Self {
        let devices = vec![0; layout::VIRTIO.count()];
        Self {
            now: None,
            before: Sum { devices, exits: Some(Exits::default()), ran: Duration::ZERO },
        }
    }

    /// The guest is in this machine from now on: the one before it has ended.
    pub(crate) fn follow(&mut self, next: ExitMeter) {
        let devices = (0..layout::VIRTIO.count()).map(|slot| self.of_device(slot)).collect();
        self.before = Sum { devices, exits: self.exits(), ran: self.time_of_ended() };
        self.now = Some(next);
    }

    /// Exits to user space for the registers of the device in this slot.
    pub(crate) fn of_device(&self, slot: usize) -> u64 {
        let now = self.now.as_ref().map_or(0, |machine| machine.of_device(slot));
        self.before.devices[slot] + now
    }

    /// All exits of all vCPUs, if the hypervisor counts them.
    pub(crate) fn exits(&self) -> Option<Exits> {
        let now = self.now.as_ref().map_or(Ok(Exits::default()), ExitMeter::of_vcpus);
        Some(self.before.exits? + now.ok()?)
    }

    /// Processor time of the vCPUs' threads that have ended.
    pub(crate) fn time_of_ended(&self) -> Duration {
        let now = self.now.as_ref().map(ExitMeter::time_of_ended);
        self.before.ran + now.unwrap_or_default()
    }
}
