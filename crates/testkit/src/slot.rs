//! Where a device is plugged in.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use cubie_virtio_core::{Config, RestoreError, StartError, TransportState, VirtioDevice};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::poll::PollContext;

use crate::registers::{Registers, lock};
use crate::session::{Header, Journal};
use crate::{Guest, Recording, RegisterTransport, Socket};

/// A device's place in the guest: its registers, its interrupt, and the way back out.
pub struct Slot {
    socket: Socket,
    /// As the latest transport has them.
    registers: Mutex<Registers>,
    config: Config,
    line: EventFd,
    kicks: Vec<EventFd>,
    journal: Option<Journal>,
}

impl Slot {
    pub(crate) fn new(socket: Socket, device: Box<dyn VirtioDevice>) -> Self {
        let line = EventFd::new(EFD_NONBLOCK).expect("an eventfd for the interrupt");
        let (id, config) = (device.id(), device.config().clone());
        let memory = socket.guest.memory().clone();
        let (transport, page) = socket.wire(device, memory.clone(), &line);
        let kicks = clones(transport.kicks());
        let journal = socket.recorded.then(|| {
            let header = Header::new(id, socket.interface, socket.trapped, &memory);
            Journal::new(header, memory, config.clone())
        });
        journal.iter().for_each(|journal| socket.guest.tell(journal.clone()));
        let registers = Mutex::new(Registers::new(transport, page, journal.clone()));
        Self { socket, registers, config, line, kicks, journal }
    }

    /// The guest that this slot belongs to.
    pub fn guest(&self) -> &Guest {
        &self.socket.guest
    }

    /// What a driver is made of. The registers are the latest driver's alone: an earlier one reads zeros,
    /// and writes nothing, from now on.
    pub fn transport(&self) -> RegisterTransport {
        let mut registers = lock(&self.registers);
        *registers = registers.hand_over();
        RegisterTransport::new(registers.clone(), self.guest().clone())
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
        let times = wait_for(&self.line, deadline);
        self.journal.iter().for_each(Journal::takes_interrupt);
        times
    }

    /// Stops the device for a snapshot, and says how far it and its driver have come
    /// ([`MmioTransport::save`](cubie_virtio_core::MmioTransport::save)).
    ///
    /// # Panics
    /// When it was unplugged.
    pub fn save(&self) -> TransportState {
        lock(&self.registers).with(|transport, _| transport.save())
    }

    /// The device goes on: the saved one, or one that took its place.
    ///
    /// # Errors
    /// When it does not start. Its driver is asked for a reset.
    ///
    /// # Panics
    /// When it was unplugged.
    pub fn resume(&self) -> Result<(), StartError> {
        lock(&self.registers).with(|transport, _| transport.resume())
    }

    /// Another machine: `device`, a new one, takes the place of the one that was saved, over the same memory
    /// mapped elsewhere, and goes on in that state with [`Slot::resume`]. The driver goes on with the same
    /// rings, and has not noticed.
    ///
    /// # Errors
    /// When the device does not take the state; then all is as before.
    ///
    /// # Panics
    /// When the slot is empty, or was [`Socket::recorded`]: a session is one device's.
    pub fn restore(
        &mut self,
        device: Box<dyn VirtioDevice>,
        state: &TransportState,
    ) -> Result<(), RestoreError> {
        assert!(self.journal.is_none(), "the session of another device is written down");
        let config = device.config().clone();
        let memory = self.guest().remap();
        let (mut new, new_page) = self.socket.wire(device, memory, &self.line);
        new.restore(state)?;
        (self.config, self.kicks) = (config, clones(new.kicks()));
        lock(&self.registers).with(|transport, page| (*transport, *page) = (new, new_page));
        Ok(())
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

fn clones(kicks: &[EventFd]) -> Vec<EventFd> {
    let clones = kicks.iter().map(EventFd::try_clone);
    clones.collect::<Result<_, _>>().expect("the same eventfds")
}

/// See [`Slot::wait_interrupt`].
#[track_caller]
pub(crate) fn wait_for(line: &EventFd, deadline: Duration) -> u64 {
    let end = Instant::now() + deadline;
    let poll = PollContext::<u32>::new().expect("a poll context");
    poll.add(line, 0).expect("a wait for the interrupt");
    loop {
        if let Ok(times) = line.read() {
            return times;
        }
        let left = end.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "no interrupt after {deadline:?}");
        poll.wait_timeout(left).expect("a wait for the interrupt");
    }
}
