//! What a segment with a SYN tells of its sender.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpAddress, TCP_HEADER_LEN, TcpPacket, TcpRepr, TcpSeqNumber,
};

use crate::addresses::MTU;

/// Bytes of payload that who does not say otherwise takes at once (RFC 9293 §3.7.1).
pub(super) const LEAST: u16 = 536;
/// Who says less means this, as smoltcp and Linux have it.
const FLOOR: u16 = 48;

/// What a segment with a SYN tells of its sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Syn {
    /// It asks for a connection.
    pub(crate) opens: bool,
    /// Bytes of payload that it takes at once.
    pub(crate) most: u16,
}

/// Where a segment lies in what its sender says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Of its first byte, or of its SYN,
    pub(crate) start: TcpSeqNumber,
    /// and behind its last byte.
    pub(crate) end: TcpSeqNumber,
}

impl Place {
    pub(crate) fn of(segment: &TcpPacket<&[u8]>) -> Self {
        let (start, syn) = (segment.seq_number(), usize::from(segment.syn()));
        Self { start, end: start + syn + segment.payload().len() }
    }
}

impl Syn {
    /// `None` for a segment without one.
    pub(crate) fn of(segment: &TcpPacket<&[u8]>, from: IpAddr, to: IpAddr) -> Option<Self> {
        segment.syn().then_some(())?;
        let opens = !segment.ack() && !segment.rst() && !segment.fin();
        let header = if from.is_ipv4() { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN };
        let (from, to) = (IpAddress::from(from), IpAddress::from(to));
        let told = TcpRepr::parse(segment, &from, &to, &ChecksumCapabilities::ignored()).ok()?;
        let ours = (MTU - header - TCP_HEADER_LEN) as u16;
        let said = told.max_seg_size.filter(|said| *said != 0);
        Some(Self { opens, most: said.map_or(LEAST, |said| said.clamp(FLOOR, ours)) })
    }
}
