//! What a card tells the log.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;

use cubie_testkit::{Guest, RawDriver, Warnings};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Loopback, Mac, Net, NetBackend, NetHeader, Received};
use cubie_virtq::Segments;
use virtio_bindings::virtio_net::VIRTIO_NET_F_GUEST_CSUM;

const CSUM: Features = Features::bit(VIRTIO_NET_F_GUEST_CSUM);

/// Does not keep its word.
struct Liar(Loopback);

impl NetBackend for Liar {
    fn send(&mut self, header: &NetHeader, frame: &mut Segments) -> io::Result<()> {
        self.0.send(header, frame)
    }

    fn recv(&mut self, header: &mut NetHeader, room: &mut Segments) -> io::Result<Received> {
        self.0.recv(header, room)
    }

    fn ready_fd(&self) -> BorrowedFd<'_> {
        self.0.ready_fd()
    }

    fn guest_offloads(&self) -> Features {
        CSUM
    }

    fn set_guest_offloads(&mut self, _offloads: Features) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
}

#[test]
fn a_host_that_refuses_is_logged_once_however_often_the_driver_starts_anew() {
    let warnings = Warnings::listen();
    let guest = Guest::new();
    let net = Net::new(Liar(Loopback::new().unwrap()), Mac::made_from("test"));
    let slot = guest.plug(Box::new(net));
    for _ in 0..20 {
        drop(RawDriver::new(&slot, CSUM, &[16, 16]));
    }
    assert_eq!(warnings.count(), 1);
}
