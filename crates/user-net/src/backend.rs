//! The gateway as a network card's host end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use cubie_virtio_core::Features;
use cubie_virtio_net::{NetBackend, NetHeader, Received};
use cubie_virtq::Segments;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
};

use crate::segment::OFFLOADS;
use crate::{Config, Forward, Gateway, UserNetError};

/// A network of the guest's own, in the VMM's process: the host end for a
/// [`Net`](cubie_virtio_net::Net).
///
/// A frame is copied once each way, between guest memory and the gateway. Connections outlive a stop of
/// the device, as those of a machine whose cable is pulled.
pub struct UserNet {
    gateway: Gateway,
    /// A frame of the guest's in one piece, and what is left of longer ones.
    frame: Vec<u8>,
    /// What the guest does itself.
    left: Features,
}

impl UserNet {
    /// A network as `config` has it, which listens on its forwarded ports.
    pub fn new(config: &Config) -> Result<Self, UserNetError> {
        let gateway = Gateway::new(config, Instant::now())?;
        Ok(Self { gateway, frame: vec![], left: Features::default() })
    }

    /// The forwarded ports, with those that the host has chosen where port 0 was asked for.
    pub fn forwards(&self) -> impl Iterator<Item = Forward> {
        self.gateway.forwards()
    }
}

impl NetBackend for UserNet {
    /// Takes every frame; what the header leaves to be done needs not be done here.
    fn send(&mut self, _header: &NetHeader, frame: &mut Segments) -> io::Result<()> {
        let len = frame.len();
        self.frame.resize(self.frame.len().max(len), 0);
        frame.read(&mut self.frame[..len]);
        self.gateway.input(&self.frame[..len], Instant::now());
        Ok(())
    }

    fn recv(&mut self, header: &mut NetHeader, room: &mut Segments) -> io::Result<Received> {
        let received = self.gateway.output_with(Instant::now(), self.left, |left, frame| {
            *header = *left;
            if frame.len() <= room.len() {
                Received::Frame(room.write(frame))
            } else {
                Received::Lost
            }
        });
        Ok(received.unwrap_or(Received::Nothing))
    }

    fn ready_fd(&self) -> BorrowedFd<'_> {
        self.gateway.as_fd()
    }

    /// Checksums and long segments: the guest's TCP ends here.
    fn offloads(&self) -> Features {
        [VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6]
            .map(Features::bit)
            .into_iter()
            .fold(Features::bit(VIRTIO_NET_F_CSUM), Features::with)
    }

    /// The same towards the guest.
    fn guest_offloads(&self) -> Features {
        OFFLOADS
    }

    fn set_guest_offloads(&mut self, offloads: Features) -> io::Result<()> {
        self.left = offloads;
        Ok(())
    }
}
