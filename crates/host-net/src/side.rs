//! What the host does with a guest's tap.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::{HostNet, HostNetError, nat, preparation, public_bridge, routed};

/// How a guest behind a tap reaches the world, and the world it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostSide {
    /// The tap is part of this bridge of the host: the guest has an address of its own in the host's
    /// network, from whoever hands them out there.
    Bridge(String),
    /// The tap is part of a private bridge: the guest gets an address in this network by DHCP, or in one
    /// that is free here, and leaves under the host's address. Nobody outside reaches it.
    Nat(Option<Ipv4Net>),
    /// The host sends packets for this address into the tap, and the guest's into the world.
    Routed(Ipv4Addr),
}

impl HostSide {
    /// Sets it up for the interface `tap`, which is up and stays the caller's. What an administrator has
    /// prepared is checked, used and left as it is.
    pub fn set_up(&self, tap: &str) -> Result<HostNet, HostNetError> {
        match self {
            Self::Bridge(bridge) => public_bridge::set_up(tap, bridge),
            Self::Nat(subnet) => nat::set_up(tap, *subnet),
            Self::Routed(guest) => routed::set_up(tap, *guest),
        }
    }

    /// The commands by which an administrator prepares the same for the interface `tap`, which is a user's who
    /// is not root (`ip tuntap add dev tap0 mode tap user $USER`).
    pub fn preparation(&self, tap: &str) -> Vec<String> {
        match self {
            Self::Bridge(bridge) => preparation::bridge(tap, bridge),
            Self::Nat(subnet) => preparation::nat(tap, subnet.unwrap_or(nat::FIRST)),
            Self::Routed(guest) => preparation::routed(tap, *guest),
        }
    }
}
