//! A pair of file descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use cubie_virtq::Segments;
use rustix::fs::{OFlags, fcntl_getfl};

use super::ConsoleBackend;

/// Any two descriptors that can be polled: pipes, sockets, serial lines; not regular files.
#[derive(Debug)]
pub struct Stream {
    input: OwnedFd,
    output: OwnedFd,
}

impl Stream {
    /// The guest reads `input` and writes `output`.
    ///
    /// Both must be non-blocking, and a blocking one is refused ([`io::ErrorKind::InvalidInput`]): the
    /// flag belongs to everybody who shares the open file, so that setting it is left to the owner.
    pub fn new(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        for (fd, which) in [(&input, "input"), (&output, "output")] {
            if !fcntl_getfl(fd)?.contains(OFlags::NONBLOCK) {
                let blame = format!("the console's {which} is not in non-blocking mode");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, blame));
            }
        }
        Ok(Self { input, output })
    }

    /// Both directions of a socket, which becomes non-blocking.
    pub fn socket(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::new(socket.try_clone()?.into(), socket.into())
    }
}

impl ConsoleBackend for Stream {
    fn read(&mut self, room: &mut Segments) -> io::Result<usize> {
        room.read_from(self.input.as_fd())
    }

    fn write(&mut self, data: &mut Segments) -> io::Result<usize> {
        data.write_to(self.output.as_fd())
    }

    fn input_ready(&self) -> Option<BorrowedFd<'_>> {
        Some(self.input.as_fd())
    }

    fn output_ready(&self) -> Option<BorrowedFd<'_>> {
        Some(self.output.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocking_descriptor_is_refused_by_name() {
        let (reader, writer) = io::pipe().unwrap();
        let error = Stream::new(reader.into(), writer.into()).unwrap_err();
        assert_eq!(error.to_string(), "the console's input is not in non-blocking mode");
    }
}
