//! Datagrams of UDP as the guest sees them.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetAddress, IpAddress, IpProtocol, UDP_HEADER_LEN, UdpPacket, UdpRepr};

use crate::frames::Outbox;
use crate::table::Path;

/// Bytes of a datagram at most.
pub(crate) const LONGEST: usize = 65_536;

/// A datagram from the other end of `path` to the guest, with `len` bytes that `fill` writes.
pub(crate) fn push(
    outbox: &mut Outbox,
    mac: EthernetAddress,
    path: Path,
    len: usize,
    fill: impl FnOnce(&mut [u8]),
) {
    let Path { guest, remote } = path;
    let header = UdpRepr { src_port: remote.port(), dst_port: guest.port() };
    let ends = (remote.ip(), guest.ip());
    outbox.push_ip(mac, ends, IpProtocol::Udp, UDP_HEADER_LEN + len, |bytes| {
        let (from, to) = (IpAddress::from(ends.0), IpAddress::from(ends.1));
        let mut packet = UdpPacket::new_unchecked(bytes);
        header.emit(&mut packet, &from, &to, len, fill, &ChecksumCapabilities::default());
    });
}
