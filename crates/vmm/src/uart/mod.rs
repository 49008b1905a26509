//! The 16550 UART: the console that works from a kernel's first word on.
//!
//! The registers are vm-superio's, one to a 32-bit word as on the A20 (`reg-shift = <2>`). What is
//! here is the two ends. Output goes through a bounded buffer and a thread, so that whoever reads it
//! can be slow, stuck or gone. Input is offered with [`Uart::enqueue`], which takes what the 64 bytes
//! of the FIFO have room for; the rest stays with the caller until [`Uart::room`] says more.
//!
//! A UART outlives its machine: [`Uart::connect`] resets it and gives it the line of the next one.

mod inlet;
mod outlet;

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;

use cubie_mmio_bus::MmioDevice;
use cubie_vm_irq::Interrupt;
use vm_superio::Serial;
use vm_superio::serial::SerialEvents;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use outlet::Outlet;

/// Bytes between two registers.
const STRIDE: u64 = 4;

/// Registers of a 16550.
const REGISTERS: u64 = 8;

/// Modem control register, which switches the loopback on and off.
const MCR: u64 = 4;

/// A 16550 with 32-bit registers.
pub struct Uart {
    serial: Serial<Line, Arc<Room>, Sender>,
    room: Arc<Room>,
    outlet: Arc<Outlet>,
}

impl Uart {
    /// A UART that writes what the guest sends to `output`, from a thread of its own.
    ///
    /// # Errors
    /// When the host has no eventfd or thread left.
    pub fn new(output: Box<dyn Write + Send>) -> io::Result<Self> {
        let room = Arc::new(Room(EventFd::new(EFD_NONBLOCK)?));
        let outlet = Arc::new(Outlet::new(output)?);
        Ok(Self { serial: serial(Interrupt::silent(), &room, &outlet), room, outlet })
    }

    /// Resets the UART, which interrupts through `line` from now on. Input that the guest has not taken
    /// is lost, as it is on hardware.
    pub fn connect(&mut self, line: Interrupt) {
        self.serial = serial(line, &self.room, &self.outlet);
        self.room.raise();
    }

    /// Lets go of the machine's line; the UART is silent until the next [`Uart::connect`].
    pub fn disconnect(&mut self) {
        self.connect(Interrupt::silent());
    }

    /// Offers input to the guest; returns how many bytes of it were taken.
    pub fn enqueue(&mut self, input: &[u8]) -> usize {
        // The one error is a FIFO that is full.
        self.serial.enqueue_raw_bytes(input).unwrap_or(0)
    }

    /// An eventfd that is raised when there is room for input again: for whoever had some left.
    ///
    /// # Errors
    /// When the host has no file descriptor left.
    pub fn room(&self) -> io::Result<EventFd> {
        self.room.0.try_clone()
    }

    /// Waits until all output is written, but no longer than a second.
    pub fn flush(&self) {
        self.outlet.flush();
    }
}

fn serial(
    line: Interrupt,
    room: &Arc<Room>,
    outlet: &Arc<Outlet>,
) -> Serial<Line, Arc<Room>, Sender> {
    Serial::with_events(Line(line), Arc::clone(room), Sender(Arc::clone(outlet)))
}

/// A register lies in the low byte of its word; the other bytes are 0. Loads and stores may have any
/// width, and what is not a register reads as 0 and ignores stores.
impl MmioDevice for Uart {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let (Some(register), Some(low)) = (register(offset), data.first_mut()) {
            *low = self.serial.read(register as u8);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let (Some(register), Some(low)) = (register(offset), data.first()) else {
            return;
        };
        // Neither the line nor the outlet can fail.
        let _ = self.serial.write(register as u8, *low);
        if register == MCR {
            // In loopback nothing is taken from outside, and that may just have ended.
            self.room.raise();
        }
    }
}

/// The register at `offset`, if one begins there.
fn register(offset: u64) -> Option<u64> {
    let register = offset / STRIDE;
    (offset.is_multiple_of(STRIDE) && register < REGISTERS).then_some(register)
}

/// The interrupt, as vm-superio wants it.
struct Line(Interrupt);

impl vm_superio::Trigger for Line {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.trigger();
        Ok(())
    }
}

/// The output, as vm-superio wants it.
struct Sender(Arc<Outlet>);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        bytes.iter().for_each(|byte| self.0.push(*byte));
        Ok(bytes.len())
    }

    /// vm-superio flushes after every byte, and a vCPU is waiting: the thread sees to it.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tells the giver of input that there is room for it.
struct Room(EventFd);

impl Room {
    fn raise(&self) {
        // Fails only when the count is at its end: it is raised then, too.
        let _ = self.0.write(1);
    }
}

impl SerialEvents for Room {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {
        self.raise();
    }
}

#[cfg(test)]
mod tests;
