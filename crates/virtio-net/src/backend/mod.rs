//! What a network card needs from the host, and host ends.

mod capture;
mod captured;
mod loopback;
mod null;
mod socket;
mod tap;

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use cubie_virtio_core::Features;
use cubie_virtq::Segments;

use crate::{Link, NetHeader};

pub use capture::{Capture, CaptureError};
pub use captured::Captured;
pub use loopback::Loopback;
pub use null::Null;
pub use socket::{Socket, SocketError};
pub use tap::{Tap, TapError};

/// What became of a [`NetBackend::recv`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A frame of so many bytes.
    Frame(usize),
    /// None is there; [`NetBackend::ready_fd`] tells when that changes.
    Nothing,
    /// A frame came for which the room is too small. It is gone; the next may fit.
    Lost,
}

/// The host's end of a network cable, for one pair of queues: a card with several has as many ends.
///
/// Owned by the card's worker while the device runs, by the device otherwise. No method blocks.
///
/// An error of the kind [`io::ErrorKind::NotFound`], from any method, says that the network behind the cable is
/// gone for good: the card's link is down from then on, which the guest is told and the log, once.
pub trait NetBackend: Send + 'static {
    /// Sends one frame, the whole of `frame`, of which `header` says what is still to be done to it:
    /// nothing, unless [`NetBackend::offloads`] promise to do it. [`io::ErrorKind::WouldBlock`] when
    /// there is no room now: the same frame comes again when [`NetBackend::ready_fd`] is writable.
    /// After any other error it is dropped.
    fn send(&mut self, header: &NetHeader, frame: &mut Segments) -> io::Result<()>;

    /// Receives one frame to the front of `room`, never a part of one. `header` is that of a plain
    /// frame, to be left so if it is one; others are for what the driver has taken over
    /// ([`NetBackend::set_guest_offloads`]). An error counts as [`Received::Nothing`].
    fn recv(&mut self, header: &mut NetHeader, room: &mut Segments) -> io::Result<Received>;

    /// Becomes readable when there is a frame to receive, and writable when there is room for one to
    /// send. Any new event will do, such as a write to an eventfd for either.
    fn ready_fd(&self) -> BorrowedFd<'_>;

    /// Something has happened at [`NetBackend::ready_fd`]: for what is to be done also while the guest neither
    /// sends nor has room. Called before frames are asked for or sent, and once at each start of the card.
    fn ready(&mut self) {}

    /// It is the end of a card's cable from now on. An end that comes and goes by itself says so to the guest
    /// by the card's `link`.
    fn plugged(&mut self, link: &Link) {
        let _ = link;
    }

    /// What it can do to frames that it sends, as features that the driver is offered: checksums
    /// (`VIRTIO_NET_F_CSUM`) and segmentation (`VIRTIO_NET_F_HOST_…`). Others are ignored, and so are those
    /// without what they need, such as segmentation without checksums (VIRTIO 1.4 §5.1.3.1). Asked once.
    fn offloads(&self) -> Features {
        Features::default()
    }

    /// What it can leave to the driver in frames that it receives, as features that the driver is offered:
    /// checksums (`VIRTIO_NET_F_GUEST_CSUM`) and segmentation (`VIRTIO_NET_F_GUEST_…`), as
    /// [`NetBackend::offloads`] otherwise.
    fn guest_offloads(&self) -> Features {
        Features::default()
    }

    /// What it may leave to the driver from now on, which may change at any time. Frames that ask for more are
    /// dropped. Before the first call that is nothing. After an error nothing has changed.
    fn set_guest_offloads(&mut self, offloads: Features) -> io::Result<()> {
        let _ = offloads;
        Ok(())
    }

    /// Whether the driver uses the pair of queues that this is the end of: if not, the host should leave
    /// frames to the other ends of the same cable. With `true` before the worker begins to wait for
    /// [`NetBackend::ready_fd`], and then as the driver wishes. After an error nothing has changed.
    fn set_active(&mut self, active: bool) -> io::Result<()> {
        let _ = active;
        Ok(())
    }

    /// The file that the kernel can send and receive frames through by itself (vhost-net), each behind a
    /// virtio header of `header_len` bytes, 10 or 12. [`io::ErrorKind::Unsupported`] for host ends that are
    /// not the kernel's own.
    fn lend(&mut self, header_len: usize) -> io::Result<&File> {
        let _ = header_len;
        Err(io::ErrorKind::Unsupported.into())
    }
}
