//! One peer, from its first frame to its last.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};

use cubie_virtq::Segments;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::super::Received;
use super::incoming::{Incoming, PREFIX};

/// What has come from a peer.
pub(super) enum Got {
    /// A frame, in the room or lost.
    Frame(Received),
    /// No whole frame yet.
    Nothing,
    /// All: the peer is gone.
    End,
    /// What no frame's length can be.
    BadLength(u32),
}

pub(super) struct Connection {
    stream: OwnedFd,
    incoming: Incoming,
    /// The peer sends nothing more.
    ended: bool,
    /// What the peer had no place for yet of a frame that was begun.
    rest: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: OwnedFd) -> Self {
        Self { stream, incoming: Incoming::default(), ended: false, rest: vec![] }
    }

    /// Sends a frame, or the first part of it: the rest goes with [`Connection::flush`], before any other.
    pub(super) fn send(&mut self, frame: &mut Segments) -> io::Result<()> {
        self.flush()?;
        let prefix = (frame.len() as u32).to_be_bytes();
        let sent = frame.send_stream(&prefix, self.stream.as_fd())?;
        if sent < PREFIX || !frame.is_empty() {
            let begun = prefix.get(sent..).unwrap_or_default();
            self.rest.extend_from_slice(begun);
            self.rest.resize(begun.len() + frame.len(), 0);
            frame.read(&mut self.rest[begun.len()..]);
        }
        Ok(())
    }

    /// Sends what is left of a frame; [`ErrorKind::WouldBlock`] if that is not all of it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let sent = send(&self.stream, &self.rest, flags)?;
            self.rest.drain(..sent);
        }
        Ok(())
    }

    /// Receives a frame into `room`.
    pub(super) fn recv(&mut self, room: &mut Segments) -> Got {
        loop {
            match self.incoming.next_frame() {
                Ok(Some(frame)) if frame.len() <= room.len() => {
                    return Got::Frame(Received::Frame(room.write(frame)));
                }
                Ok(Some(_)) => return Got::Frame(Received::Lost),
                Ok(None) => {}
                Err(len) => return Got::BadLength(len),
            }
            if !self.fill() {
                return if self.ended { Got::End } else { Got::Nothing };
            }
        }
    }

    /// Reads what has come, as far as there is room for it: whether that is anything.
    pub(super) fn fill(&mut self) -> bool {
        let space = self.incoming.space();
        if self.ended || space.is_empty() {
            return false;
        }
        let read = recv(&self.stream, space, RecvFlags::DONTWAIT).map(|(len, _)| len);
        match read {
            Ok(0) => self.ended = true,
            Ok(len) => self.incoming.filled(len),
            Err(error) => self.ended = is_end(&error.into()),
        }
        read.is_ok_and(|len| len > 0)
    }

    /// Whether the peer is gone, and all of its frames have been received.
    pub(super) fn is_over(&self) -> bool {
        self.ended && !self.incoming.has_frame()
    }
}

/// Whether nothing more passes after this error.
pub(super) fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}
