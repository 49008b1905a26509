//! Frames over a connection that is never waited for.

use super::{Frame, HIGH_WATER};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

/// Upper limit of one frame's body: Linux allows 2 MiB of arguments and environment by default.
const MAX_BODY: usize = 8 << 20;

/// One end of a connection, never blocking.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    written: usize,
}

impl Link {
    /// Takes over a connection on which the greeting is done.
    ///
    /// # Errors
    /// When the socket's options cannot be set.
    pub fn new(stream: TcpStream) -> io::Result<Link> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Link { stream, incoming: Vec::new(), outgoing: Vec::new(), written: 0 })
    }

    /// Queues a frame; [`Link::flush`] sends it.
    pub fn send(&mut self, frame: &Frame) {
        frame.encode(&mut self.outgoing);
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.backlog() > 0 {
            match self.stream.write(&self.outgoing[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.backlog() == 0 {
            self.outgoing.clear();
            self.written = 0;
        } else if self.written > HIGH_WATER {
            self.outgoing.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }

    /// Bytes that wait for the other side to read.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.outgoing.len() - self.written
    }

    /// Reads once; `false` when the other side has closed the connection.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 64 << 10];
        match self.stream.read(&mut bytes) {
            Ok(count) => {
                self.incoming.extend_from_slice(&bytes[..count]);
                Ok(count > 0)
            }
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) =>
            {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// The frames that have arrived whole.
    ///
    /// # Errors
    /// When the other side does not speak this protocol.
    pub fn frames(&mut self) -> io::Result<Vec<Frame>> {
        let (mut frames, mut rest) = (Vec::new(), self.incoming.as_slice());
        while let Some((&[kind, a, b, c, d], body)) = rest.split_first_chunk() {
            let length = u32::from_le_bytes([a, b, c, d]) as usize;
            if length > MAX_BODY {
                return Err(io::Error::new(ErrorKind::InvalidData, "the frame is too long"));
            }
            let Some((body, after)) = body.split_at_checked(length) else {
                break;
            };
            let frame = Frame::decode(kind, body);
            frames
                .push(frame.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "not a frame"))?);
            rest = after;
        }
        let taken = self.incoming.len() - rest.len();
        self.incoming.drain(..taken);
        Ok(frames)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Link::new(listener.accept().unwrap().0).unwrap(), stream)
    }

    fn wait(link: &Link) {
        let mut fds = [rustix::event::PollFd::new(link, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
    }

    #[test]
    fn a_frame_is_delivered_when_its_last_byte_has_come() {
        let (mut link, mut stream) = pair();
        stream.write_all(&[2, 3, 0, 0, 0, b'a', b'b']).unwrap();
        wait(&link);
        assert!(link.fill().unwrap());
        assert_eq!(link.frames().unwrap(), []);
        stream.write_all(&[b'c', 7, 0, 0, 0, 0]).unwrap();
        wait(&link);
        link.fill().unwrap();
        assert_eq!(link.frames().unwrap(), [Frame::Stdin(b"abc".to_vec()), Frame::Ping]);
    }

    #[test]
    fn a_length_over_the_limit_is_an_error_before_any_memory_is_used() {
        let (mut link, mut stream) = pair();
        stream.write_all(&[2, 0, 0, 0, 255]).unwrap();
        wait(&link);
        link.fill().unwrap();
        assert_eq!(link.frames().unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn what_the_other_side_does_not_read_waits_and_arrives_later() {
        let (mut link, mut stream) = pair();
        let bytes = vec![5; 8 << 20];
        link.send(&Frame::Stdout(bytes.clone()));
        link.flush().unwrap();
        assert!(link.backlog() > 0, "the sockets took 8 MiB");
        let reader = std::thread::spawn(move || {
            let mut received = vec![0; 5 + (8 << 20)];
            stream.read_exact(&mut received).unwrap();
            received
        });
        while link.backlog() > 0 {
            link.flush().unwrap();
        }
        assert!(reader.join().unwrap()[5..] == bytes);
    }

    #[test]
    fn the_end_of_the_connection_is_seen() {
        let (mut link, stream) = pair();
        drop(stream);
        wait(&link);
        assert!(!link.fill().unwrap());
    }
}
