//! The link that smoltcp sees: one packet in, and out as many as the guest's end has room for.

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, EthernetProtocol};

use crate::addresses::MTU;
use crate::frames::Outbox;

/// A link to one card of the guest's side.
pub(super) struct Port<'a> {
    /// What the guest has sent.
    pub(super) packet: Option<&'a [u8]>,
    pub(super) outbox: &'a mut Outbox,
    pub(super) mac: EthernetAddress,
    /// What goes out is of this family.
    pub(super) kind: EthernetProtocol,
}

impl Port<'_> {
    /// Packets without a link layer, since one card is on the other end. What comes through memory
    /// needs no checksum, and has none where the guest leaves it to the card.
    pub(super) fn capabilities() -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

impl Device for Port<'_> {
    type RxToken<'b>
        = Packet<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Out<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Packet<'_>, Out<'_>)> {
        let packet = Packet(self.packet.take()?);
        // An answer without room is lost; smoltcp does not rely on those.
        Some((packet, Out { outbox: self.outbox, mac: self.mac, kind: self.kind }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Out<'_>> {
        let Self { outbox, mac, kind, .. } = self;
        outbox.has_room_for_streams().then_some(Out { outbox, mac: *mac, kind: *kind })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        Self::capabilities()
    }
}

/// What the guest has sent.
pub(super) struct Packet<'a>(&'a [u8]);

impl RxToken for Packet<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

/// Room for one packet.
pub(super) struct Out<'a> {
    outbox: &'a mut Outbox,
    mac: EthernetAddress,
    kind: EthernetProtocol,
}

impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        self.outbox.push(self.mac, self.kind, len, fill)
    }
}
