//! TCP segments for the guest, which may be longer than its interface takes: they are cut, and get
//! their checksums, when they leave, unless the guest has taken that over.

use std::net::IpAddr;
use std::num::NonZeroU16;

use cubie_virtio_core::Features;
use cubie_virtio_net::NetHeader;
use smoltcp::wire::{
    EthernetProtocol, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpAddress, IpProtocol, Ipv4Packet,
    Ipv6Packet, TCP_HEADER_LEN, TcpPacket, checksum,
};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6,
};

use crate::addresses::MTU;

/// Bytes of an Ethernet header.
pub(crate) const HEADER: usize = 14;
/// The option of a SYN that says how much payload a segment may have (RFC 9293 §3.2).
const MSS: u8 = 2;
/// Where a TCP header has its checksum.
const CHECKSUM: usize = 16;

/// What the guest can be left to do with segments.
pub(crate) const OFFLOADS: Features = Features::bit(VIRTIO_NET_F_GUEST_CSUM)
    .with(Features::bit(VIRTIO_NET_F_GUEST_TSO4))
    .with(Features::bit(VIRTIO_NET_F_GUEST_TSO6));

/// What is known of a frame with a TCP segment that has no checksum yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    is_ipv4: bool,
    /// Bytes of payload that the guest takes at once; `None` for a segment that is not longer.
    size: Option<NonZeroU16>,
    /// Bytes of payload that have left.
    cut: usize,
}

impl Segment {
    /// What smoltcp has put into `packet`, for a guest that takes `most` bytes of payload at once; `None`
    /// if it is no TCP. A guest that is asked for its own `most` is told ours.
    pub(crate) fn of(packet: &mut [u8], kind: EthernetProtocol, most: u16) -> Option<Self> {
        let (is_ipv4, protocol) = match kind {
            EthernetProtocol::Ipv4 => (true, Ipv4Packet::new_unchecked(&*packet).next_header()),
            _ => (false, Ipv6Packet::new_unchecked(&*packet).next_header()),
        };
        (protocol == IpProtocol::Tcp).then_some(())?;
        let start = if is_ipv4 { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN };
        let len = packet.len() - start;
        let mut segment = TcpPacket::new_unchecked(&mut packet[start..]);
        // smoltcp's first option, which says as much as its longest packet has.
        if let (true, [MSS, 4, high, low, ..]) = (segment.syn(), segment.options_mut()) {
            let ours = MTU - start - TCP_HEADER_LEN;
            [*high, *low] = (ours as u16).to_be_bytes();
        }
        let len = len - usize::from(segment.header_len());
        let size = NonZeroU16::new(most).filter(|most| len > most.get().into());
        Some(Self { is_ipv4, size, cut: 0 })
    }

    /// Shows the next frame of what is in `frame` to `take`, with no more left to do than `offloads`
    /// allow. The other value is `false` if there is another frame.
    pub(crate) fn leave<R>(
        &mut self,
        frame: &mut [u8],
        spare: &mut Vec<u8>,
        offloads: Features,
        take: impl FnOnce(&NetHeader, &[u8]) -> R,
    ) -> (R, bool) {
        let cuts = match self.is_ipv4 {
            true => VIRTIO_NET_F_GUEST_TSO4,
            false => VIRTIO_NET_F_GUEST_TSO6,
        };
        let csum = Features::bit(VIRTIO_NET_F_GUEST_CSUM);
        match self.size {
            // One that has begun to be cut goes on so.
            Some(size) if self.cut > 0 || !offloads.has(csum.with(Features::bit(cuts))) => {
                let is_last = self.cut_into(spare, frame, size.get().into());
                (take(&self.finish(spare, None, offloads.has(csum)), spare), is_last)
            }
            size => (take(&self.finish(frame, size, offloads.has(csum)), frame), true),
        }
    }

    /// Where the TCP header begins.
    fn start(&self) -> usize {
        HEADER + if self.is_ipv4 { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN }
    }

    /// Copies the next part of a long segment to `part`, with headers of its own; `true` if it is the last.
    fn cut_into(&mut self, part: &mut Vec<u8>, frame: &[u8], size: usize) -> bool {
        let start = self.start();
        let whole = TcpPacket::new_unchecked(&frame[start..]);
        let headers = start + usize::from(whole.header_len());
        let from = headers + self.cut;
        let to = frame.len().min(from + size);
        part.clear();
        part.extend_from_slice(&frame[..headers]);
        part.extend_from_slice(&frame[from..to]);
        let is_last = to == frame.len();
        let mut segment = TcpPacket::new_unchecked(&mut part[start..]);
        segment.set_seq_number(whole.seq_number() + self.cut);
        segment.set_fin(whole.fin() && is_last);
        segment.set_psh(whole.psh() && is_last);
        let len = (part.len() - HEADER) as u16;
        if self.is_ipv4 {
            let mut packet = Ipv4Packet::new_unchecked(&mut part[HEADER..]);
            packet.set_total_len(len);
            packet.fill_checksum();
        } else {
            let len = len - IPV6_HEADER_LEN as u16;
            Ipv6Packet::new_unchecked(&mut part[HEADER..]).set_payload_len(len);
        }
        self.cut += to - from;
        is_last
    }

    /// Puts the checksum into a frame, or that of the pseudo header if the guest does the rest
    /// (VIRTIO 1.4 §5.1.6.4), which is to be cut by the guest if there is a `size`.
    fn finish(&self, frame: &mut [u8], size: Option<NonZeroU16>, partly: bool) -> NetHeader {
        let start = self.start();
        let (from, to) = self.ends(frame);
        let mut segment = TcpPacket::new_unchecked(&mut frame[start..]);
        if !partly {
            segment.fill_checksum(&from, &to);
            return NetHeader::default();
        }
        let headers = start + usize::from(segment.header_len());
        let len = segment.into_inner().len() as u32;
        let pseudo = checksum::pseudo_header(&from, &to, IpProtocol::Tcp, len);
        TcpPacket::new_unchecked(&mut frame[start..]).set_checksum(pseudo);
        let kind = match self.is_ipv4 {
            true => VIRTIO_NET_HDR_GSO_TCPV4,
            false => VIRTIO_NET_HDR_GSO_TCPV6,
        };
        NetHeader {
            flags: VIRTIO_NET_HDR_F_NEEDS_CSUM as u8,
            csum_start: start as u16,
            csum_offset: CHECKSUM as u16,
            gso_type: size.map_or(0, |_| kind as u8),
            gso_size: size.map_or(0, NonZeroU16::get),
            hdr_len: size.map_or(0, |_| headers as u16),
            num_buffers: 0,
        }
    }

    fn ends(&self, frame: &[u8]) -> (IpAddress, IpAddress) {
        let (from, to): (IpAddr, IpAddr) = if self.is_ipv4 {
            let packet = Ipv4Packet::new_unchecked(&frame[HEADER..]);
            (packet.src_addr().into(), packet.dst_addr().into())
        } else {
            let packet = Ipv6Packet::new_unchecked(&frame[HEADER..]);
            (packet.src_addr().into(), packet.dst_addr().into())
        };
        (from.into(), to.into())
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpRepr, TcpControl, TcpRepr, TcpSeqNumber};

    use super::*;

    const LEN: usize = 1000;

    /// A segment of [`LEN`] bytes that ends a connection, from smoltcp.
    fn frame(from: IpAddr, to: IpAddr, kind: EthernetProtocol) -> Vec<u8> {
        let payload = Vec::from_iter((0..LEN).map(|n| n as u8));
        let segment = TcpRepr {
            src_port: 80,
            dst_port: 4000,
            control: TcpControl::Fin,
            // Round once.
            seq_number: TcpSeqNumber(-300),
            ack_number: Some(TcpSeqNumber(7)),
            window_len: 9000,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [Some((9, 12)), None, None],
            timestamp: None,
            payload: &payload,
        };
        let (from, to) = (from.into(), to.into());
        let header = IpRepr::new(from, to, IpProtocol::Tcp, segment.buffer_len(), 64);
        let mut bytes = vec![0; HEADER + header.buffer_len()];
        header.emit(&mut bytes[HEADER..], &ChecksumCapabilities::default());
        let room = &mut bytes[HEADER + header.header_len()..];
        let none = ChecksumCapabilities::ignored();
        segment.emit(&mut TcpPacket::new_unchecked(room), &from, &to, &none);
        bytes[12..14].copy_from_slice(&u16::from(kind).to_be_bytes());
        bytes
    }

    /// The payload of a frame whose checksums are right, where it belongs, and whether it is the end.
    fn read(frame: &[u8], is_ipv4: bool) -> (TcpSeqNumber, Vec<u8>, bool) {
        let (from, to, payload): (IpAddress, IpAddress, &[u8]) = if is_ipv4 {
            let packet = Ipv4Packet::new_checked(&frame[HEADER..]).unwrap();
            assert!(packet.verify_checksum());
            assert_eq!(usize::from(packet.total_len()), frame.len() - HEADER);
            (packet.src_addr().into(), packet.dst_addr().into(), packet.payload())
        } else {
            let packet = Ipv6Packet::new_checked(&frame[HEADER..]).unwrap();
            assert_eq!(packet.total_len(), frame.len() - HEADER);
            (packet.src_addr().into(), packet.dst_addr().into(), packet.payload())
        };
        let segment = TcpPacket::new_checked(payload).unwrap();
        let all = ChecksumCapabilities::default();
        let repr = TcpRepr::parse(&segment, &from, &to, &all).unwrap();
        assert_eq!((repr.ack_number, repr.sack_ranges[0]), (Some(TcpSeqNumber(7)), Some((9, 12))));
        (repr.seq_number, repr.payload.to_vec(), repr.control == TcpControl::Fin)
    }

    #[test]
    fn a_long_segment_is_cut_into_pieces_that_say_the_same() {
        for (ends, kind) in [
            (["10.0.2.2", "10.0.2.15"], EthernetProtocol::Ipv4),
            (["fd00:10:0:2::2", "fd00:10:0:2::f"], EthernetProtocol::Ipv6),
        ] {
            let [from, to] = ends.map(|end| end.parse().unwrap());
            for most in [48, 333, 500, 999, 1000, 1460] {
                let mut frame = frame(from, to, kind);
                let mut segment = Segment::of(&mut frame[HEADER..], kind, most).unwrap();
                let (mut came, mut spare, mut is_all) = (vec![], vec![], false);
                while !is_all {
                    let ((next, payload, ends), is_last) =
                        segment.leave(&mut frame, &mut spare, Features(0), |header, frame| {
                            assert_eq!(*header, NetHeader::default());
                            read(frame, from.is_ipv4())
                        });
                    assert_eq!(next, TcpSeqNumber(-300) + came.len());
                    assert!((1..=usize::from(most)).contains(&payload.len()));
                    assert_eq!(ends, is_last, "the end comes last");
                    (is_all, came) = (is_last, [came, payload].concat());
                }
                assert_eq!(came, Vec::from_iter((0..LEN).map(|n| n as u8)));
            }
        }
    }

    #[test]
    fn a_guest_that_changes_its_mind_gets_the_rest_as_it_began() {
        let [from, to] = ["10.0.2.2", "10.0.2.15"].map(|end| end.parse().unwrap());
        let mut frame = frame(from, to, EthernetProtocol::Ipv4);
        let mut segment = Segment::of(&mut frame[HEADER..], EthernetProtocol::Ipv4, 400).unwrap();
        let mut next = |offloads| {
            let len = |header: &NetHeader, frame: &[u8]| (header.gso_size, frame.len());
            segment.leave(&mut frame, &mut vec![], offloads, len)
        };
        let headers = HEADER + IPV4_HEADER_LEN + TCP_HEADER_LEN + 12;
        assert_eq!(next(Features(0)), ((0, headers + 400), false));
        assert_eq!(next(OFFLOADS), ((0, headers + 400), false));
        assert_eq!(next(OFFLOADS), ((0, headers + 200), true));
    }
}
