//! What is typed, on its way to the UART.

use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::poll::PollContext;

use super::Uart;

impl Uart {
    /// Types into `uart` whatever comes from `input`, until its end, on a thread of its own. A
    /// pipe, a socket or a terminal; non-blocking or not. Nothing
    /// is lost when the guest reads slowly: the rest waits in `input`.
    ///
    /// # Errors
    /// When the host has no file descriptor or thread left.
    pub fn feed(uart: Arc<Mutex<Uart>>, input: OwnedFd) -> io::Result<JoinHandle<()>> {
        let room = uart.lock().unwrap_or_else(PoisonError::into_inner).room()?;
        let name = thread::Builder::new().name("uart-input".into());
        name.spawn(move || {
            if let Err(error) = pump(&uart, &room, input) {
                tracing::warn!(%error, "the UART's input has ended");
            }
        })
    }
}

fn pump(uart: &Mutex<Uart>, room: &EventFd, input: OwnedFd) -> io::Result<()> {
    let mut input = std::fs::File::from(input);
    let mut bytes = [0; 256];
    loop {
        let mut left = match input.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => &bytes[..count],
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait_for(&input)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        while !left.is_empty() {
            let taken = uart.lock().unwrap_or_else(PoisonError::into_inner).enqueue(left);
            left = &left[taken..];
            if taken == 0 {
                wait_for(room)?;
                // Raised before the FIFO was full, perhaps: then the next round waits again.
                let _ = room.read();
            }
        }
    }
}

/// Returns when there is something to read.
fn wait_for(source: &impl AsRawFd) -> io::Result<()> {
    let context = PollContext::new()?;
    context.add(source, 0u32)?;
    context.wait().map(drop).map_err(Into::into)
}
