//! Where clouds tell a virtual machine about itself.
//!
//! Whoever asks there gets what the host is trusted with: its credentials, keys and start-up scripts.
//! The services know nobody but by the address that asks, and for them a guest's requests are the
//! host's. So a guest reaches none of them.
//!
//! Most are at link-local addresses, which are nowhere anyway (169.254.169.254, 169.254.42.42,
//! fe80::a9fe:a9fe); these are not. Where one is the host's resolver too (Azure's 168.63.129.16, AWS's
//! fd00:ec2::253), the guest's queries to the name server still go there: no other port does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba Cloud
    Ipv4Addr::new(168, 63, 129, 16),   // Azure's WireServer
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle, at a customer's
];
const V6: [Ipv6Addr; 5] = [
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), // Google Compute Engine
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), // Oracle
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),  // Scaleway
    Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1), // Akamai, once Linode
    Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200), // Alibaba Cloud
];
/// All of AWS's own services are in fd00:ec2::/32: `::254` has the metadata, `::23` the credentials of
/// containers.
const AWS: [u16; 2] = [0xfd00, 0xec2];

/// Whether a cloud's metadata service is at the address, one that is not link-local.
pub(crate) fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => V4.contains(&address),
        IpAddr::V6(address) => address.segments()[..2] == AWS || V6.contains(&address),
    }
}
