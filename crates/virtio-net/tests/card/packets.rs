//! A host end made outside of the crate, on a socket that keeps the borders of packets, as a tap does. Each
//! packet is a header and a frame.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};

use cubie_virtio_core::Features;
use cubie_virtio_net::{NetBackend, NetHeader, Received};
use cubie_virtq::Segments;

use crate::driver::DEADLINE;

/// What a host end was told that it may leave to the driver, each time.
pub(crate) type Told = Arc<Mutex<Vec<Features>>>;

pub(crate) struct Packets {
    socket: UnixDatagram,
    host: Features,
    guest: Features,
    told: Told,
}

impl Packets {
    /// An end that promises these offloads, and the other end.
    pub(crate) fn new(host: Features, guest: Features) -> (Self, UnixDatagram) {
        let (socket, other) = UnixDatagram::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        other.set_read_timeout(Some(DEADLINE)).unwrap();
        (Self { socket, host, guest, told: Told::default() }, other)
    }

    pub(crate) fn told(&self) -> Told {
        Arc::clone(&self.told)
    }
}

impl NetBackend for Packets {
    fn send(&mut self, header: &NetHeader, frame: &mut Segments) -> io::Result<()> {
        frame.write_packet(&header.to_bytes(), self.socket.as_fd())
    }

    fn recv(&mut self, header: &mut NetHeader, room: &mut Segments) -> io::Result<Received> {
        let mut bytes = [0; NetHeader::LEN];
        match room.read_packet(&mut bytes, self.socket.as_fd()) {
            Ok(len) => {
                *header = NetHeader::from_bytes(bytes);
                Ok(len.map_or(Received::Lost, Received::Frame))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    fn ready_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn offloads(&self) -> Features {
        self.host
    }

    fn guest_offloads(&self) -> Features {
        self.guest
    }

    fn set_guest_offloads(&mut self, offloads: Features) -> io::Result<()> {
        self.told.lock().unwrap().push(offloads);
        // The widest of all is more than this end can do.
        if offloads.has_bit(virtio_bindings::virtio_net::VIRTIO_NET_F_GUEST_USO6) {
            return Err(ErrorKind::Unsupported.into());
        }
        Ok(())
    }
}
