//! The link that smoltcp sees: one packet in, and out as many as the guest's end has room for.

use std::num::NonZeroUsize;

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, EthernetProtocol};

use crate::frames::Outbox;

/// Bytes of the longest packet that says how long it is.
const LONGEST: NonZeroUsize = NonZeroUsize::new(u16::MAX as usize).expect("not zero");

/// A link to one card of the guest's side.
pub(super) struct Port<'a> {
    /// What the guest has sent.
    pub(super) packet: Option<&'a [u8]>,
    pub(super) outbox: &'a mut Outbox,
    pub(super) mac: EthernetAddress,
    /// What goes out is of this family.
    pub(super) kind: EthernetProtocol,
    /// Bytes of payload that the guest takes at once.
    pub(super) most: u16,
}

impl Port<'_> {
    /// Packets without a link layer, since one card is on the other end. What comes through memory
    /// needs no checksum, and has none where the guest leaves it to the card. What goes out is as long
    /// as a packet can be, and has none either: [`Outbox`] does the rest, if the guest does not.
    /// smoltcp 0.14 loses a packet of IPv6 that is longer than the MTU, so that is as long.
    pub(super) fn capabilities() -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = LONGEST.get();
        capabilities.checksum.tcp = Checksum::None;
        capabilities.segmentation.tcpv4 = Some(LONGEST);
        capabilities.segmentation.tcpv6 = Some(LONGEST);
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
        let Self { outbox, mac, kind, most, .. } = self;
        Some((packet, Out { outbox, mac: *mac, kind: *kind, most: *most }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Out<'_>> {
        let Self { outbox, mac, kind, most, .. } = self;
        outbox.has_room_for_streams().then_some(Out { outbox, mac: *mac, kind: *kind, most: *most })
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
    most: u16,
}

impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        self.outbox.push_segment(self.mac, self.kind, (len, self.most), fill)
    }
}
