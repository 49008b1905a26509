//! The guest's side of the network: who has which address.
//!
//! | who | IPv4 | IPv6 |
//! |---|---|---|
//! | the network | `10.0.2.0/24` | `fd00:10:0:2::/64` |
//! | gateway, and the host itself | `10.0.2.2` | `fd00:10:0:2::2`, `fe80::2` |
//! | name server | `10.0.2.3` | `fd00:10:0:2::3` |
//! | guest | `10.0.2.15` by DHCP | any, by router advertisements |
//!
//! The IPv4 ones are those of QEMU's and others' user-mode networks. The IPv6 ones are unique local
//! addresses (RFC 4193), so that a guest prefers IPv4 towards the internet (RFC 6724 §2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The gateway. A connection to it goes to the host's loopback interface.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The name server: queries go to the host's.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// What the guest gets by DHCP.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The mask of the network's IPv4 addresses.
pub const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

/// The first 64 bits of the network's IPv6 addresses.
pub const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 2, 0, 0, 0, 0);
/// The gateway, as [`GATEWAY`].
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 2, 0, 0, 0, 2);
/// The gateway on the link; routers are known by such addresses (RFC 4861 §4.2).
pub const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// The name server, as [`DNS`].
pub const DNS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 2, 0, 0, 0, 3);

/// The gateway's card.
pub const MAC: [u8; 6] = [0x52, 0x55, 10, 0, 2, 2];
/// Bytes of an IP packet towards the guest, at most.
pub const MTU: usize = 1500;

/// The gateway's addresses.
pub(crate) fn is_gateway(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address == GATEWAY,
        IpAddr::V6(address) => [GATEWAY6, LINK_LOCAL].contains(&address),
    }
}

/// The name server's addresses.
pub(crate) fn is_dns(address: IpAddr) -> bool {
    address == DNS || address == DNS6
}

/// Whether the address is one of the guest's network.
pub(crate) fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address & NETMASK == GATEWAY & NETMASK,
        IpAddr::V6(address) => address.segments()[..4] == PREFIX.segments()[..4],
    }
}
