//! What is between the guest's stack and the gateway.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use cubie_user_net::Gateway;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};

/// The guest's end of a cable.
pub(crate) trait Cable {
    fn send(&mut self, frame: &[u8], now: Instant);
    fn receive(&mut self, now: Instant) -> Option<Vec<u8>>;
    /// Readable when something may have come.
    fn ready(&self) -> BorrowedFd<'_>;
}

impl Cable for Gateway {
    fn send(&mut self, frame: &[u8], now: Instant) {
        self.input(frame, now);
    }
    fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        let frame = self.output(now, <[u8]>::to_vec)?;
        assert!(frame.len() <= 1514, "longer than the guest's interface takes");
        Some(frame)
    }
    fn ready(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

/// The link of the guest's stack.
pub(crate) struct Link<C> {
    pub(crate) cable: C,
    pub(crate) now: Instant,
}

impl<C: Cable> Cable for &mut C {
    fn send(&mut self, frame: &[u8], now: Instant) {
        (**self).send(frame, now);
    }
    fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        (**self).receive(now)
    }
    fn ready(&self) -> BorrowedFd<'_> {
        (**self).ready()
    }
}

impl<C: Cable> Device for Link<C> {
    type RxToken<'a>
        = Received
    where
        Self: 'a;
    type TxToken<'a>
        = Room<'a, C>
    where
        Self: 'a;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Room<'_, C>)> {
        let frame = self.cable.receive(self.now)?;
        Some((Received(frame), Room(self)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Room<'_, C>> {
        Some(Room(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

pub(crate) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

pub(crate) struct Room<'a, C>(&'a mut Link<C>);

impl<C: Cable> TxToken for Room<'_, C> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut frame = vec![0; len];
        let filled = fill(&mut frame);
        self.0.cable.send(&frame, self.0.now);
        filled
    }
}
