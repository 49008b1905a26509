//! From the guest to the screen.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// What a UART may print before the screen must have kept up: an early kernel log fits well. Less if
/// the host grants less.
const PIPE_SIZE: usize = 1 << 20;
/// The thread copies pieces of this size.
const PIECE: usize = 1 << 16;
/// How long the last output may take when the terminal is closed.
const GRACE: Duration = Duration::from_secs(1);

/// The thread between the guest's pipe and the screen.
///
/// The screen is a descriptor that this process shares with others, the shell above all: to make it
/// non-blocking would make it so for them, and a blocking write can take for ever. So a thread does
/// nothing else, nobody waits for it longer than [`GRACE`], and the guest's end is a pipe of our own.
pub(super) struct Output {
    /// The guest's end, non-blocking.
    pub(super) guest: OwnedFd,
    stop: OwnedFd,
    /// Hangs up when the thread has ended.
    ended: Receiver<()>,
}

impl Output {
    pub(super) fn start(screen: OwnedFd) -> io::Result<Self> {
        let (pipe, guest) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // An unprivileged person may have used up all of its pipe memory: then it is smaller.
        let _ = fcntl_setpipe_size(&guest, PIPE_SIZE);
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (alive, ended) = channel();
        let pump = Pump { pipe, screen: screen.into(), stop: stop.try_clone()?, closed: false };
        thread::Builder::new().name("terminal-output".into()).spawn(move || {
            let _alive = alive;
            pump.run()
        })?;
        Ok(Self { guest, stop, ended })
    }
}

impl Drop for Output {
    /// Waits until all output is on the screen. A screen that takes nothing is left to itself.
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        let _ = self.ended.recv_timeout(GRACE);
    }
}

struct Pump {
    pipe: OwnedFd,
    screen: File,
    stop: OwnedFd,
    /// The screen has gone away: output is thrown away, so that the guest goes on.
    closed: bool,
}

impl Pump {
    fn run(mut self) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        let mut stopping = false;
        loop {
            match rustix::io::read(&self.pipe, &mut piece[..]) {
                Ok(0) => return Ok(()),
                Ok(count) => self.closed = self.closed || self.show(&piece[..count]).is_err(),
                Err(rustix::io::Errno::AGAIN) if stopping => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => stopping = self.wait()?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for output. True when there will be no more than there is now.
    fn wait(&self) -> io::Result<bool> {
        let mut fds = [&self.pipe, &self.stop].map(|fd| PollFd::new(fd, PollFlags::IN));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!fds[1].revents().is_empty()),
            Err(error) => Err(error.into()),
        }
    }

    fn show(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.screen.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody who shares the screen has made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.screen, PollFlags::OUT)], None)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The guest's output for a device that prints byte by byte on a vCPU's thread, such as a UART.
///
/// Never blocks. A byte for which there is no room is lost, as on a serial line without flow control:
/// that takes a screen which is a mebibyte behind.
#[derive(Debug)]
pub struct TerminalWriter(pub(super) OwnedFd);

impl Write for TerminalWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match rustix::io::write(&self.0, bytes) {
            Err(rustix::io::Errno::AGAIN) => Ok(bytes.len()),
            result => Ok(result?),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
