//! Where a device is plugged in.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cubie_mmio_bus::MemoryPage;
use cubie_virtio_core::{Config, Features, MmioTransport, VirtioDevice};
use cubie_vm_irq::Interrupt;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::poll::PollContext;

use crate::registers::{PAGE, Registers, lock};
use crate::session::{Header, Journal};
use crate::{Guest, Recording, RegisterTransport, Socket};

/// What a driver can choose from for its rings: all that there is.
const RINGS: Features = Features::RING.with(Features::PACKED).with(Features::IN_ORDER);

/// A device's place in the guest: its registers, its interrupt, and the way back out.
pub struct Slot {
    guest: Guest,
    /// As the latest transport has them.
    registers: Mutex<Registers>,
    config: Config,
    line: EventFd,
    kicks: Vec<EventFd>,
    journal: Option<Journal>,
}

impl Slot {
    pub(crate) fn new(socket: Socket, device: Box<dyn VirtioDevice>) -> Self {
        let Socket { guest, interface, trapped, recorded } = socket;
        let line = EventFd::new(EFD_NONBLOCK).expect("an eventfd for the interrupt");
        let config = device.config().clone();
        let id = device.id();
        let interrupt = Interrupt::new(line.try_clone().expect("the same eventfd"));
        let mut transport = MmioTransport::new(device, guest.memory().clone(), interrupt)
            .expect("eventfds for the kicks")
            .with_interface(interface)
            .with_rings(RINGS);
        let page = (!trapped).then(|| Arc::new(MemoryPage::new(PAGE)));
        if let Some(page) = &page {
            transport = transport.with_page(page.clone());
        }
        let clones = transport.kicks().iter().map(EventFd::try_clone);
        let kicks = clones.collect::<Result<_, _>>().expect("the same eventfds");
        let memory = guest.memory().clone();
        let journal = recorded.then(|| {
            let header = Header::new(id, interface, trapped, &memory);
            Journal::new(header, memory, config.clone())
        });
        journal.iter().for_each(|journal| guest.tell(journal.clone()));
        let registers = Mutex::new(Registers::new(transport, page, journal.clone()));
        Self { guest, registers, config, line, kicks, journal }
    }

    /// The guest that this slot belongs to.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// What a driver is made of. The registers are the latest driver's alone: an earlier one reads zeros,
    /// and writes nothing, from now on.
    pub fn transport(&self) -> RegisterTransport {
        let mut registers = lock(&self.registers);
        *registers = registers.hand_over();
        RegisterTransport::new(registers.clone(), self.guest.clone())
    }

    /// A look at the 32-bit register at `offset`, whoever drives the device.
    pub fn register(&self, offset: u32) -> u32 {
        lock(&self.registers).look(offset.into())
    }

    /// The device's configuration space, to change it from the outside.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The interrupt: readable (without blocking) when it was raised since it was read last.
    pub fn interrupt(&self) -> &EventFd {
        &self.line
    }

    /// The eventfds by which the device is kicked, one a queue. A hypervisor writes to them whatever the
    /// registers would say, also when the device does not run.
    pub fn kicks(&self) -> &[EventFd] {
        &self.kicks
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
                self.journal.iter().for_each(Journal::takes_interrupt);
                return times;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no interrupt after {deadline:?}");
            poll.wait_timeout(left).expect("a wait for the interrupt");
        }
    }

    /// Writes a line into the session: what the host does now, such as `types "hello"`.
    ///
    /// # Panics
    /// Unless the socket was [`Socket::recorded`].
    pub fn note(&self, text: &str) {
        self.journal().note(text);
    }

    /// What has happened since the last call, in lines that read as what the driver does.
    ///
    /// # Panics
    /// Unless the socket was [`Socket::recorded`].
    pub fn transcript(&self) -> String {
        self.journal().tell()
    }

    /// All that has happened since the device was plugged in, to be kept and to be played again.
    ///
    /// # Panics
    /// Unless the socket was [`Socket::recorded`].
    pub fn recording(&self) -> Recording {
        self.journal().recording()
    }

    fn journal(&self) -> &Journal {
        self.journal.as_ref().expect("a session that is written down: call Socket::recorded first")
    }

    /// Stops the device and takes it out. A driver that is left reads zeros, and writes nothing.
    ///
    /// # Panics
    /// The second time.
    pub fn unplug(&self) -> Box<dyn VirtioDevice> {
        lock(&self.registers).unplug().expect("a device in the slot")
    }
}
