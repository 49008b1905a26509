//! Frames on their way to the guest.

use std::collections::VecDeque;
use std::net::IpAddr;

use cubie_virtio_core::Features;
use cubie_virtio_net::NetHeader;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IPV6_HEADER_LEN, IpAddress, IpProtocol,
    IpRepr,
};

use crate::addresses::{MAC, MTU};
use crate::segment::{HEADER, Segment};

/// Frames that wait for the guest at most.
const MOST: usize = 128;
/// Bytes of them, beyond which connections get no room: few of the longest segments, which the
/// processor's cache still holds when they leave.
const MOST_BYTES: usize = 256 << 10;
/// Bytes of memory that are kept for frames to come.
const MOST_SPARE: usize = 4 * MOST_BYTES;
/// Bytes in front of a segment's payload at most: it is written, what is in front of it need not be.
const HEADERS: usize = HEADER + IPV6_HEADER_LEN + 60;

/// Frames that wait for a buffer of the guest's, in order. Who has more to send asks for room first;
/// what is pushed without any is lost, as it would be on a wire.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Frame>,
    /// Bytes of all that waits.
    len: usize,
    spare: Vec<Vec<u8>>,
    /// Bytes of memory that `spare` has.
    kept: usize,
    /// A part of a segment.
    part: Vec<u8>,
}

#[derive(Debug)]
struct Frame {
    bytes: Vec<u8>,
    /// What is left to do to it, if it is not as the guest gets it.
    segment: Option<Segment>,
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
        self.frames.len() < MOST / 2 && self.len < MOST_BYTES
    }

    /// Shows the next frame to `take`, with no more left to do than `offloads` allow, and removes it.
    pub(crate) fn pop<R>(
        &mut self,
        offloads: Features,
        take: impl FnOnce(&NetHeader, &[u8]) -> R,
    ) -> Option<R> {
        let Self { frames, part, .. } = self;
        let Frame { bytes, segment } = frames.front_mut()?;
        let (taken, is_all) = match segment {
            Some(segment) => segment.leave(bytes, part, offloads, take),
            None => (take(&NetHeader::default(), bytes), true),
        };
        if is_all && let Some(Frame { bytes, .. }) = self.frames.pop_front() {
            self.len -= bytes.len();
            self.keep(bytes);
        }
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
        let mut bytes = self.memory();
        bytes.clear();
        bytes.resize(HEADER + len, 0);
        let filled = seal(&mut bytes, to, kind, fill);
        self.enqueue(Frame { bytes, segment: None });
        filled
    }

    /// A frame with a packet of smoltcp's of `len` bytes, which `fill` writes: a TCP segment without a
    /// checksum, for a guest that takes `most` bytes of payload at once.
    pub(crate) fn push_segment<R>(
        &mut self,
        to: EthernetAddress,
        kind: EthernetProtocol,
        (len, most): (usize, u16),
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let mut bytes = self.memory();
        // Not all of it once more: a payload is long.
        bytes.resize(HEADER + len, 0);
        let headers = bytes.len().min(HEADERS);
        bytes[..headers].fill(0);
        let filled = seal(&mut bytes, to, kind, fill);
        let segment = Segment::of(&mut bytes[HEADER..], kind, most);
        self.enqueue(Frame { bytes, segment });
        filled
    }

    fn enqueue(&mut self, frame: Frame) {
        if self.has_room() {
            self.len += frame.bytes.len();
            self.frames.push_back(frame);
        } else {
            self.keep(frame.bytes);
        }
    }

    fn memory(&mut self) -> Vec<u8> {
        let bytes = self.spare.pop().unwrap_or_default();
        self.kept -= bytes.capacity();
        bytes
    }

    fn keep(&mut self, bytes: Vec<u8>) {
        if self.kept + bytes.capacity() <= MOST_SPARE {
            self.kept += bytes.capacity();
            self.spare.push(bytes);
        }
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

/// Writes what is in front of a frame's payload, and lets `fill` write that.
fn seal<R>(
    bytes: &mut [u8],
    to: EthernetAddress,
    kind: EthernetProtocol,
    fill: impl FnOnce(&mut [u8]) -> R,
) -> R {
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    frame.set_dst_addr(to);
    frame.set_src_addr(EthernetAddress(MAC));
    frame.set_ethertype(kind);
    fill(&mut bytes[HEADER..])
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
            let last = outbox.pop(Features(0), |_, frame| frame[HEADER..].to_vec()).unwrap();
            assert_eq!(last, (n as u32).to_le_bytes());
        }
        assert!(outbox.is_empty());
        assert_eq!(outbox.spare.len(), MOST + 1, "those without room shared one buffer");
    }
}
