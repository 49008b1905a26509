//! Frames on their way to the guest.

use std::collections::VecDeque;
use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, IpRepr,
};

use crate::addresses::{MAC, MTU};

/// Frames that wait for the guest at most.
const MOST: usize = 128;
/// Bytes of an Ethernet header.
const HEADER: usize = 14;

/// Frames that wait for a buffer of the guest's, in order. Who has more to send asks for room first;
/// what is pushed without any is lost, as it would be on a wire.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.frames.len() < MOST
    }

    /// Whether there is room for connections, which fill what they get: half of it is for what cannot
    /// wait so well.
    pub(crate) fn has_room_for_streams(&self) -> bool {
        self.frames.len() < MOST / 2
    }

    /// Shows the next frame to `take`, and removes it.
    pub(crate) fn pop<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let frame = self.frames.pop_front()?;
        let taken = take(&frame);
        self.spare.push(frame);
        Some(taken)
    }

    /// A frame with a payload of `len` bytes, which `fill` writes.
    pub(crate) fn push<R>(
        &mut self,
        to: EthernetAddress,
        kind: EthernetProtocol,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.resize(HEADER + len, 0);
        let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
        frame.set_dst_addr(to);
        frame.set_src_addr(EthernetAddress(MAC));
        frame.set_ethertype(kind);
        let filled = fill(&mut bytes[HEADER..]);
        match self.has_room() {
            true => self.frames.push_back(bytes),
            false => self.spare.push(bytes),
        }
        filled
    }

    /// An IP packet from `from` to `to`, both of one family, with a payload of `len` bytes, which
    /// `fill` writes. One that is too long for the guest's interface is lost.
    pub(crate) fn push_ip(
        &mut self,
        mac: EthernetAddress,
        (from, to): (IpAddr, IpAddr),
        protocol: IpProtocol,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) {
        // Neighbour discovery is believed from the link only (RFC 4861 §7.1).
        let hops = if protocol == IpProtocol::Icmpv6 { 255 } else { 64 };
        let header = IpRepr::new(IpAddress::from(from), IpAddress::from(to), protocol, len, hops);
        if header.buffer_len() > MTU {
            tracing::debug!(len, %from, "a packet is too long for the guest's interface");
            return;
        }
        self.push(mac, ethertype(from), header.buffer_len(), |packet| {
            header.emit(&mut *packet, &ChecksumCapabilities::default());
            fill(&mut packet[header.header_len()..]);
        });
    }
}

/// What the packets of an address's family are in a frame.
pub(crate) fn ethertype(address: IpAddr) -> EthernetProtocol {
    match address {
        IpAddr::V4(_) => EthernetProtocol::Ipv4,
        IpAddr::V6(_) => EthernetProtocol::Ipv6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_leave_in_order_and_their_memory_stays() {
        let mut outbox = Outbox::default();
        for n in 0..MOST + 9 {
            outbox.push(EthernetAddress::BROADCAST, EthernetProtocol::Arp, 4, |bytes| {
                bytes.copy_from_slice(&(n as u32).to_le_bytes());
            });
            assert_eq!(outbox.has_room(), n + 1 < MOST);
        }
        for n in 0..MOST {
            let last = outbox.pop(|frame| frame[HEADER..].to_vec()).unwrap();
            assert_eq!(last, (n as u32).to_le_bytes());
        }
        assert!(outbox.is_empty());
        assert_eq!(outbox.spare.len(), MOST + 1, "those without room shared one buffer");
    }
}
