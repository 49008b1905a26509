//! What precedes a frame (VIRTIO 1.4 §5.1.6).

use cubie_virtio_core::Features;
use virtio_bindings::virtio_net::*;

use super::features::GUEST_CSUM;

const NEEDS_CSUM: u8 = VIRTIO_NET_HDR_F_NEEDS_CSUM as u8;
const DATA_VALID: u8 = VIRTIO_NET_HDR_F_DATA_VALID as u8;
const GSO_NONE: u8 = VIRTIO_NET_HDR_GSO_NONE as u8;
const GSO_ECN: u8 = VIRTIO_NET_HDR_GSO_ECN as u8;

/// `struct virtio_net_hdr_v1`, which precedes every frame (§5.1.6): what is still to be done to it.
///
/// The default is a plain frame, with nothing left to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetHeader {
    /// `VIRTIO_NET_HDR_F_…`.
    pub flags: u8,
    /// `VIRTIO_NET_HDR_GSO_…`: how to cut the frame into segments.
    pub gso_type: u8,
    /// Bytes of the headers that each segment gets. Drivers may have it wrong: a hint, not to be relied on.
    pub hdr_len: u16,
    /// Bytes of payload in each segment.
    pub gso_size: u16,
    /// Where the checksum begins, in bytes from the frame's start.
    pub csum_start: u16,
    /// Where it is put, in bytes from `csum_start`.
    pub csum_offset: u16,
    /// Over how many chains a received frame is spread.
    pub num_buffers: u16,
}

impl NetHeader {
    /// Bytes in front of a frame.
    pub const LEN: usize = 12;

    /// Bytes in front of a frame when these features were negotiated: a legacy driver that does not merge
    /// buffers has no `num_buffers` (§5.1.6.1).
    pub(crate) const fn len(negotiated: Features) -> usize {
        let merges = negotiated.has_bit(VIRTIO_NET_F_MRG_RXBUF);
        if merges || negotiated.has(Features::VERSION_1) { Self::LEN } else { Self::LEN - 2 }
    }

    /// As it lies in memory.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let word = |at| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
            num_buffers: word(10),
        }
    }

    /// As it lies in memory.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let Self { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers } =
            self;
        let mut bytes = [flags, gso_type, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let words = [hdr_len, gso_size, csum_start, csum_offset, num_buffers];
        for (pair, word) in bytes[2..].chunks_exact_mut(2).zip(words) {
            pair.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The header of a frame that the guest sends, as the host may see it: without flags that the
    /// driver has no business with, and without fields that mean nothing when nothing was asked for.
    /// `None` when it asks for what was not negotiated.
    pub(crate) fn for_host(self, negotiated: Features) -> Option<Self> {
        let flags = self.flags & NEEDS_CSUM;
        let mut asked = match u32::from(self.gso_type & !GSO_ECN) {
            VIRTIO_NET_HDR_GSO_NONE => Features::default(),
            VIRTIO_NET_HDR_GSO_TCPV4 => Features::bit(VIRTIO_NET_F_HOST_TSO4),
            VIRTIO_NET_HDR_GSO_TCPV6 => Features::bit(VIRTIO_NET_F_HOST_TSO6),
            VIRTIO_NET_HDR_GSO_UDP => Features::bit(VIRTIO_NET_F_HOST_UFO),
            VIRTIO_NET_HDR_GSO_UDP_L4 => Features::bit(VIRTIO_NET_F_HOST_USO),
            _ => return None,
        };
        if self.gso_type & GSO_ECN != 0 {
            asked = asked.with(Features::bit(VIRTIO_NET_F_HOST_ECN));
        }
        if flags & NEEDS_CSUM != 0 {
            asked = asked.with(Features::bit(VIRTIO_NET_F_CSUM));
        }
        negotiated.has(asked).then_some(())?;
        Some(self.with_flags(flags))
    }

    /// The header of a frame that the host sends, as the guest may see it, to which these offloads may be
    /// left now (§5.1.6.4.1): without anything that the host knows besides. `None` when it would leave
    /// others, or what nobody could finish.
    pub(crate) fn for_guest(self, offloads: Features) -> Option<Self> {
        let checksums = offloads.has(GUEST_CSUM);
        let flags = if checksums { self.flags & (NEEDS_CSUM | DATA_VALID) } else { 0 };
        let needs_csum = self.flags & NEEDS_CSUM != 0;
        let either = |one, other| match offloads.has_bit(one) {
            true => Features::bit(one),
            false => Features::bit(other),
        };
        let mut left = match u32::from(self.gso_type & !GSO_ECN) {
            VIRTIO_NET_HDR_GSO_NONE => Features::default(),
            VIRTIO_NET_HDR_GSO_TCPV4 => Features::bit(VIRTIO_NET_F_GUEST_TSO4),
            VIRTIO_NET_HDR_GSO_TCPV6 => Features::bit(VIRTIO_NET_F_GUEST_TSO6),
            VIRTIO_NET_HDR_GSO_UDP => Features::bit(VIRTIO_NET_F_GUEST_UFO),
            VIRTIO_NET_HDR_GSO_UDP_L4 => either(VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6),
            _ => return None,
        };
        if left != Features::default() {
            // A segment has a checksum of its own, and a size.
            (needs_csum && self.gso_size != 0).then_some(())?;
        }
        if self.gso_type & GSO_ECN != 0 {
            left = left.with(Features::bit(VIRTIO_NET_F_GUEST_ECN));
        }
        if needs_csum {
            left = left.with(GUEST_CSUM);
        }
        offloads.has(left).then(|| self.with_flags(flags))
    }

    /// With these flags, and without fields that mean nothing.
    fn with_flags(self, flags: u8) -> Self {
        let (csum_start, csum_offset) = match flags & NEEDS_CSUM {
            0 => (0, 0),
            _ => (self.csum_start, self.csum_offset),
        };
        let (hdr_len, gso_size) = match self.gso_type {
            GSO_NONE => (0, 0),
            _ => (self.hdr_len, self.gso_size),
        };
        let Self { gso_type, .. } = self;
        Self { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers: 0 }
    }

    /// Is the frame to be cut into segments?
    pub(crate) fn has_segments(&self) -> bool {
        self.gso_type != GSO_NONE
    }
}

#[cfg(test)]
mod tests {
    use super::super::features::{FEATURES, GUEST_OFFLOADS, HOST_OFFLOADS};
    use super::*;

    const CSUM: Features = Features::bit(VIRTIO_NET_F_CSUM);

    const TSO4: Features = Features::bit(VIRTIO_NET_F_HOST_TSO4);

    fn header(flags: u32, gso_type: u32) -> NetHeader {
        NetHeader { flags: flags as u8, gso_type: gso_type as u8, ..NetHeader::default() }
    }

    #[test]
    fn fields_lie_where_the_standard_says() {
        let bytes = [1, 4, 3, 0, 5, 0, 7, 0, 9, 0, 11, 1];
        let header = NetHeader::from_bytes(bytes);
        let expected = NetHeader {
            flags: 1,
            gso_type: 4,
            hdr_len: 3,
            gso_size: 5,
            csum_start: 7,
            csum_offset: 9,
            num_buffers: 267,
        };
        assert_eq!(header, expected);
        assert_eq!(header.to_bytes(), bytes);
    }

    #[test]
    fn only_a_legacy_driver_has_the_short_header() {
        let merges = Features::bit(VIRTIO_NET_F_MRG_RXBUF);
        let lengths = [Features::default(), CSUM, Features::VERSION_1, merges].map(NetHeader::len);
        assert_eq!(lengths, [10, 10, 12, 12]);
    }

    #[test]
    fn a_guest_may_ask_for_what_was_negotiated() {
        let plain = header(0, VIRTIO_NET_HDR_GSO_NONE);
        let checksum = header(VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE);
        let segments = header(VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4);
        for (header, needs) in
            [(plain, Features::default()), (checksum, CSUM), (segments, CSUM.with(TSO4))]
        {
            assert_eq!(header.for_host(needs), Some(header));
            assert_eq!(header.for_host(HOST_OFFLOADS), Some(header));
            if needs != Features::default() {
                assert_eq!(header.for_host(FEATURES), None);
            }
        }
        assert_eq!(segments.for_host(CSUM), None);
        assert_eq!(header(0, VIRTIO_NET_HDR_GSO_ECN).for_host(CSUM.with(TSO4)), None);
        assert_eq!(header(0, 0x7f).for_host(HOST_OFFLOADS), None, "no such kind of segments");
    }

    #[test]
    fn flags_that_are_not_the_drivers_do_not_reach_the_host() {
        let odd = NetHeader { flags: 0xfe, num_buffers: 9, ..NetHeader::default() };
        assert_eq!(odd.for_host(Features::default()), Some(NetHeader::default()));
    }

    #[test]
    fn fields_that_mean_nothing_do_not_reach_the_host() {
        let numbers = NetHeader::from_bytes([0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(numbers.for_host(HOST_OFFLOADS), Some(NetHeader::default()));
        let checksum = NetHeader { flags: NEEDS_CSUM, ..numbers };
        let NetHeader { csum_start, csum_offset, .. } = numbers;
        let plain = NetHeader::default();
        let expected = NetHeader { flags: NEEDS_CSUM, csum_start, csum_offset, ..plain };
        assert_eq!(checksum.for_host(HOST_OFFLOADS), Some(expected));
        let segments = NetHeader { gso_type: VIRTIO_NET_HDR_GSO_TCPV4 as u8, ..checksum };
        assert_eq!(
            segments.for_host(HOST_OFFLOADS),
            Some(NetHeader { num_buffers: 0, ..segments })
        );
    }

    #[test]
    fn a_guest_that_takes_nothing_over_sees_plain_frames() {
        let seen = |header: NetHeader| header.for_guest(Features::default());
        let plain = NetHeader::default();
        assert_eq!(seen(plain), Some(plain));
        // The host has checked the sum; whoever has not negotiated it must not be told.
        assert_eq!(seen(header(VIRTIO_NET_HDR_F_DATA_VALID, 0)), Some(plain));
        assert_eq!(seen(header(VIRTIO_NET_HDR_F_RSC_INFO, 0)), Some(plain));
        assert_eq!(seen(header(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0)), None);
        let segments = NetHeader { gso_size: 9, ..header(1, VIRTIO_NET_HDR_GSO_TCPV4) };
        assert_eq!(seen(segments), None);
        assert_eq!(segments.for_guest(GUEST_CSUM), None);
    }

    #[test]
    fn a_guest_sees_what_it_takes_over() {
        let checked = header(VIRTIO_NET_HDR_F_DATA_VALID | VIRTIO_NET_HDR_F_RSC_INFO, 0);
        let expected = header(VIRTIO_NET_HDR_F_DATA_VALID, 0);
        assert_eq!(checked.for_guest(GUEST_CSUM), Some(expected), "RSC_EXT is not offered");
        for (gso_type, needed) in [
            (VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_F_GUEST_TSO4),
            (VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_F_GUEST_TSO6),
            (VIRTIO_NET_HDR_GSO_UDP, VIRTIO_NET_F_GUEST_UFO),
            (VIRTIO_NET_HDR_GSO_UDP_L4, VIRTIO_NET_F_GUEST_USO4),
            (VIRTIO_NET_HDR_GSO_UDP_L4, VIRTIO_NET_F_GUEST_USO6),
        ] {
            let segments = NetHeader { gso_size: 9, csum_start: 34, ..header(1, gso_type) };
            let marked = NetHeader { gso_type: segments.gso_type | GSO_ECN, ..segments };
            let offloads = GUEST_CSUM.with(Features::bit(needed));
            let marks = offloads.with(Features::bit(VIRTIO_NET_F_GUEST_ECN));
            assert_eq!(segments.for_guest(offloads), Some(segments));
            assert_eq!(segments.for_guest(Features(GUEST_OFFLOADS.0 & !offloads.0)), None);
            assert_eq!(segments.for_guest(GUEST_CSUM), None);
            assert_eq!(marked.for_guest(offloads), None);
            assert_eq!(marked.for_guest(marks), Some(marked));
            let wrong = [NetHeader { flags: 0, ..segments }, NetHeader { gso_size: 0, ..segments }];
            assert_eq!(wrong.map(|header| header.for_guest(marks)), [None, None]);
        }
        assert_eq!(header(1, 0x7f).for_guest(GUEST_OFFLOADS), None, "no such kind of segments");
    }
}
