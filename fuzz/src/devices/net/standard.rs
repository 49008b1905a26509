//! What VIRTIO 1.4 §5.1.6 makes of a frame that a driver sends.

use cubie_virtio_core::Features;
use cubie_virtio_net::NetHeader;

/// Bytes of a header, of which a legacy driver leaves out the last two.
pub(super) const HEADER: usize = 12;

const CSUM: u32 = 0;
const TSO4: u32 = 11;
const TSO6: u32 = 12;
const ECN: u32 = 13;
const UFO: u32 = 14;
const USO: u32 = 56;
/// Features by which a driver may leave work to the host.
pub(super) const OFFLOADS: [u32; 6] = [CSUM, TSO4, TSO6, ECN, UFO, USO];

/// The shortest frame is an Ethernet header, the longest is in §5.1.6.3.1.
const SHORTEST: usize = 14;
const LONGEST: usize = 65_550;

pub(super) fn header_len(features: Features) -> usize {
    if features.has(Features::VERSION_1) { HEADER } else { HEADER - 2 }
}

/// The header of a frame to which nothing is to be done, in one buffer.
pub(super) fn plain_header() -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[10] = 1;
    header
}

/// What of `sent` the host is to see: a header that says what is left to do, and the frame. `None` when it
/// must not get there.
pub(super) fn frame_for_host(sent: &[u8], features: Features) -> Option<(NetHeader, &[u8])> {
    let (bytes, frame) = sent.split_at_checked(header_len(features))?;
    if frame.len() < SHORTEST || frame.len() > LONGEST {
        return None;
    }
    let mut header = NetHeader::default();
    let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    if bytes[0] & 1 != 0 {
        features.has_bit(CSUM).then_some(())?;
        header.flags = 1;
        (header.csum_start, header.csum_offset) = (word(6), word(8));
    }
    let kind = bytes[1] & 0x7f;
    let needs = match kind {
        0 => None,
        1 => Some(TSO4),
        3 => Some(UFO),
        4 => Some(TSO6),
        5 => Some(USO),
        _ => return None,
    };
    if !needs.is_none_or(|feature| features.has_bit(feature)) {
        return None;
    }
    if bytes[1] & 0x80 != 0 && !features.has_bit(ECN) {
        return None;
    }
    if bytes[1] != 0 {
        header.gso_type = bytes[1];
        (header.hdr_len, header.gso_size) = (word(2), word(4));
    }
    Some((header, frame))
}
