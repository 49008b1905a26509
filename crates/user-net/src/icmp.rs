//! Messages of ICMP for both families: echoes and errors.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable,
    Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Repr, Ipv6Repr,
};

use crate::frames::Outbox;
use crate::table::Path;

/// Types of messages (RFC 792, RFC 4443).
pub(crate) const REQUEST_V4: u8 = 8;
pub(crate) const REQUEST_V6: u8 = 128;
pub(crate) const REPLY_V4: u8 = 0;
pub(crate) const REPLY_V6: u8 = 129;

/// An echo request or reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo<'a> {
    pub(crate) ident: u16,
    pub(crate) sequence: u16,
    pub(crate) data: &'a [u8],
}

/// Why a packet did not get where it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// Nobody has the port.
    Port,
    /// There is no way to the host.
    Host,
    /// There is one, and it is closed.
    Prohibited,
}

/// Tells the guest the answer to an echo request that `to` has sent to `from`.
pub(crate) fn reply(
    outbox: &mut Outbox,
    mac: EthernetAddress,
    (from, to): (IpAddr, IpAddr),
    echo: Echo<'_>,
) {
    let Echo { ident, sequence: seq_no, data } = echo;
    match (from, to) {
        (IpAddr::V4(_), _) => {
            push_v4(outbox, mac, (from, to), Icmpv4Repr::EchoReply { ident, seq_no, data });
        }
        _ => push_v6(outbox, mac, (from, to), Icmpv6Repr::EchoReply { ident, seq_no, data }),
    }
}

/// Tells the guest that a packet of its flow `path` did not arrive: `data` is what it began with
/// behind the IP header. It seems to come from the other end, to which there is no other way.
pub(crate) fn unreachable(
    outbox: &mut Outbox,
    mac: EthernetAddress,
    path: Path,
    protocol: IpProtocol,
    data: &[u8],
    why: Unreachable,
) {
    let (guest, remote) = (path.guest.ip(), path.remote.ip());
    let ends = (remote, guest);
    let (next_header, payload_len, hop_limit) = (protocol, data.len(), 64);
    match (guest, remote) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
            let header = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            let reason = match why {
                Unreachable::Port => Icmpv4DstUnreachable::PortUnreachable,
                Unreachable::Host => Icmpv4DstUnreachable::HostUnreachable,
                Unreachable::Prohibited => Icmpv4DstUnreachable::CommProhibited,
            };
            push_v4(outbox, mac, ends, Icmpv4Repr::DstUnreachable { reason, header, data });
        }
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
            let header = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            let reason = match why {
                Unreachable::Port => Icmpv6DstUnreachable::PortUnreachable,
                Unreachable::Host => Icmpv6DstUnreachable::NoRoute,
                Unreachable::Prohibited => Icmpv6DstUnreachable::AdminProhibit,
            };
            push_v6(outbox, mac, ends, Icmpv6Repr::DstUnreachable { reason, header, data });
        }
        _ => {}
    }
}

fn push_v4(
    outbox: &mut Outbox,
    mac: EthernetAddress,
    ends: (IpAddr, IpAddr),
    message: Icmpv4Repr<'_>,
) {
    outbox.push_ip(mac, ends, IpProtocol::Icmp, message.buffer_len(), |bytes| {
        let checksums = ChecksumCapabilities::default();
        message.emit(&mut Icmpv4Packet::new_unchecked(bytes), &checksums);
    });
}

fn push_v6(
    outbox: &mut Outbox,
    mac: EthernetAddress,
    ends: (IpAddr, IpAddr),
    message: Icmpv6Repr<'_>,
) {
    let (IpAddr::V6(from), IpAddr::V6(to)) = ends else { return };
    outbox.push_ip(mac, ends, IpProtocol::Icmpv6, message.buffer_len(), |bytes| {
        let checksums = ChecksumCapabilities::default();
        message.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(bytes), &checksums);
    });
}
