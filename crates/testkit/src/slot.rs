//! Where a device is plugged in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cubie_mmio_bus::MmioDevice;
use cubie_virtio_core::{Config, Features, Interface, MmioTransport, VirtioDevice};
use cubie_vm_irq::Interrupt;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::poll::PollContext;

use crate::{Guest, RegisterTransport};

/// What a driver can choose from for its rings: all that there is.
const RINGS: Features = Features::RING.with(Features::PACKED).with(Features::IN_ORDER);

/// A device's place in the guest: its registers, its interrupt, and the way back out.
pub struct Slot {
    guest: Guest,
    /// As the latest transport has them.
    registers: Mutex<Registers>,
    config: Config,
    line: EventFd,
}

/// The register file that a slot shares with its latest transport; empty in the hands of an earlier one,
/// and once the device is unplugged.
#[derive(Clone)]
pub(crate) struct Registers(Arc<Mutex<Option<MmioTransport>>>);

impl Slot {
    pub(crate) fn new(guest: Guest, device: Box<dyn VirtioDevice>, interface: Interface) -> Self {
        let line = EventFd::new(EFD_NONBLOCK).expect("an eventfd for the interrupt");
        let config = device.config().clone();
        let interrupt = Interrupt::new(line.try_clone().expect("the same eventfd"));
        let registers = MmioTransport::new(device, guest.memory().clone(), interrupt)
            .expect("eventfds for the kicks")
            .with_interface(interface)
            .with_rings(RINGS);
        let registers = Mutex::new(Registers::new(Some(registers)));
        Self { guest, registers, config, line }
    }

    /// The guest that this slot belongs to.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// What a driver is made of. The registers are the latest driver's alone: an earlier one reads zeros,
    /// and writes nothing, from now on.
    pub fn transport(&self) -> RegisterTransport {
        let mut registers = lock(&self.registers);
        let taken = lock(&registers.0).take();
        *registers = Registers::new(taken);
        RegisterTransport::new(registers.clone(), self.guest.clone())
    }

    /// A look at the 32-bit register at `offset`, whoever drives the device.
    pub fn register(&self, offset: u32) -> u32 {
        lock(&self.registers).read(offset.into())
    }

    /// The device's configuration space, to change it from the outside.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The interrupt: readable (without blocking) when it was raised since it was read last.
    pub fn interrupt(&self) -> &EventFd {
        &self.line
    }

    /// Waits for the interrupt and takes it. How often it was raised.
    ///
    /// # Panics
    /// At the deadline.
    #[track_caller]
    pub fn wait_interrupt(&self, deadline: Duration) -> u64 {
        let end = Instant::now() + deadline;
        let poll = PollContext::<u32>::new().expect("a poll context");
        poll.add(&self.line, 0).expect("a wait for the interrupt");
        loop {
            if let Ok(times) = self.line.read() {
                return times;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no interrupt after {deadline:?}");
            poll.wait_timeout(left).expect("a wait for the interrupt");
        }
    }

    /// Stops the device and takes it out. A driver that is left reads zeros, and writes nothing.
    ///
    /// # Panics
    /// The second time.
    pub fn unplug(&self) -> Box<dyn VirtioDevice> {
        let registers = lock(&lock(&self.registers).0).take();
        registers.expect("a device in the slot").unplug()
    }
}

impl Registers {
    fn new(registers: Option<MmioTransport>) -> Self {
        Self(Arc::new(Mutex::new(registers)))
    }

    /// The 32-bit register at `offset`.
    pub(crate) fn read(&self, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.read_bytes(offset, &mut word);
        u32::from_le_bytes(word)
    }

    /// Writes the 32-bit register at `offset`.
    pub(crate) fn write(&self, offset: u64, value: u32) {
        self.write_bytes(offset, &value.to_le_bytes());
    }

    /// One load of `data.len()` bytes.
    pub(crate) fn read_bytes(&self, offset: u64, data: &mut [u8]) {
        match &mut *lock(&self.0) {
            Some(registers) => registers.read(offset, data),
            None => data.fill(0),
        }
    }

    /// One store of `data.len()` bytes.
    pub(crate) fn write_bytes(&self, offset: u64, data: &[u8]) {
        if let Some(registers) = &mut *lock(&self.0) {
            registers.write(offset, data);
        }
    }
}

/// A test that panics with a register in hand still drops its driver.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
