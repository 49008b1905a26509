//! What passes on a tap, as the host's kernel shows it to whoever looks (packet(7)).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::vm::DEADLINE;

/// Bytes of Ethernet's header, and of IPv6's.
const ETHERNET: usize = 14;
const IPV6: usize = 40;
const TCP: u8 = 6;
/// Segments that are looked at.
const SAMPLE: usize = 200;

/// Where frames come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Host,
    Guest,
}

/// What [`SAMPLE`] segments of TCP with payload were like.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Bytes of the longest frame.
    pub(crate) longest: u64,
    /// How many had their checksum: that of others is left to whoever sends them on.
    pub(crate) summed: usize,
}

impl Sample {
    /// Looks at what passes on `tap` from now on, of segments from `from`.
    pub(crate) fn take(tap: &str, from: From) -> Self {
        let (family, all) = (AddressFamily::Packet, SockProtocol::EthAll);
        let ear = socket(family, SockType::Raw, SockFlag::empty(), all).unwrap();
        let patience = TimeVal::seconds(DEADLINE.as_secs() as i64);
        setsockopt(&ear, sockopt::ReceiveTimeout, &patience).unwrap();
        let index = if_nametoindex(tap).unwrap() as usize;
        let (mut sample, mut bytes) = (Self { longest: 0, summed: 0 }, vec![0; 1 << 17]);
        let mut seen = 0;
        while seen < SAMPLE {
            let frame = next(&ear, index, from, &mut bytes);
            if let Some(summed) = is_summed(frame) {
                seen += 1;
                sample.longest = sample.longest.max(frame.len() as u64);
                sample.summed += usize::from(summed);
            }
        }
        sample
    }

    /// Whether all had their checksums, or none: what stands in its place is right by chance once in 65,535 times.
    pub(crate) fn are_summed(&self) -> bool {
        assert!(self.summed <= 2 || self.summed == SAMPLE, "all or none: {self:?}");
        self.summed == SAMPLE
    }
}

/// The next frame of the interface that comes `from` there.
fn next<'a>(ear: &OwnedFd, index: usize, from: From, bytes: &'a mut [u8]) -> &'a [u8] {
    loop {
        let (len, address) = recvfrom::<LinkAddr>(ear.as_raw_fd(), bytes).expect("frames pass");
        let address = address.expect("an interface");
        let is_ours = address.pkttype() == libc::PACKET_OUTGOING;
        if address.ifindex() == index && is_ours == (from == From::Host) {
            return &bytes[..len];
        }
    }
}

/// Whether a segment of TCP with payload has its checksum; nothing of other frames.
fn is_summed(frame: &[u8]) -> Option<bool> {
    let packet = frame.get(ETHERNET..)?;
    // Addresses, and what is behind them and the rest of the header.
    let (protocol, addresses, segment) = match frame[12..ETHERNET] {
        [0x08, 0x00] => {
            let header = usize::from(packet[0] & 0xf) * 4;
            let len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            (packet[9], &packet[12..20], packet.get(header..len)?)
        }
        [0x86, 0xdd] => {
            let len = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            (packet[6], &packet[8..IPV6], packet.get(IPV6..IPV6 + len)?)
        }
        _ => return None,
    };
    let header = usize::from(*segment.get(12)? >> 4) * 4;
    if protocol != TCP || segment.len() <= header {
        return None;
    }
    // RFC 9293 §3.1: over a header of its own, too, of addresses, protocol and length.
    let words = |bytes: &[u8]| -> u64 {
        let word =
            |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| (*low).into());
        bytes.chunks(2).map(word).sum()
    };
    let sum = words(addresses) + u64::from(TCP) + segment.len() as u64 + words(segment);
    Some(sum.is_multiple_of(0xffff))
}
