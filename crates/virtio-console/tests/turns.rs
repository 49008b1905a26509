//! A guest that prints without end does not keep its console from anything else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RawDriver, within};
use cubie_virtio_console::{Console, ConsoleBackend, WindowSize};
use cubie_virtio_core::Features;
use cubie_virtq::Segments;
use rustix::event::{EventfdFlags, eventfd};

const DEADLINE: Duration = Duration::from_secs(20);
const MIB: usize = 1 << 20;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Always has room, and input from the moment on when something is printed.
struct Answering {
    printed: usize,
    typed: OwnedFd,
    /// How much was printed when the input was asked for.
    asked: Sender<usize>,
}

impl ConsoleBackend for Answering {
    fn read(&mut self, room: &mut Segments) -> io::Result<usize> {
        if self.printed == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // Nobody listens any more after the first time.
        let _ = self.asked.send(self.printed);
        Ok(room.write(b"x"))
    }
    fn write(&mut self, data: &mut Segments) -> io::Result<usize> {
        if self.printed == 0 {
            rustix::io::write(&self.typed, &1u64.to_ne_bytes())?;
        }
        let count = data.len().min(4096);
        data.consume(count);
        self.printed += count;
        Ok(count)
    }
    fn input_ready(&self) -> Option<BorrowedFd<'_>> {
        Some(self.typed.as_fd())
    }
    fn output_ready(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[test]
fn input_has_its_turn_while_the_guest_prints_without_end() {
    within(DEADLINE, || {
        let (asked, asks) = channel();
        let typed = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let console = Console::new(Answering { printed: 0, typed, asked }, WindowSize::default());
        let guest = Guest::new();
        let slot = guest.plug(Box::new(console));
        let mut driver = RawDriver::new(&slot, Features::default(), &[4, 64]);
        let (room, text) = (guest.buffer(16), guest.buffer(MIB));
        driver.offer(RECEIVE, &[Descriptor::writable(room.0, 16)]);
        driver.offer(TRANSMIT, &[Descriptor::readable(text.0, MIB as u32); 64]);
        assert_eq!(driver.wait_used(RECEIVE, DEADLINE).written, 1);
        let printed = asks.recv().unwrap();
        assert!(printed <= 2 * MIB, "{printed} bytes were printed before");
        driver.wait_used(TRANSMIT, DEADLINE);
    });
}
