//! The host's side of one tap.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::dhcp::DhcpServer;
use crate::seat::{Door, Seat};
use crate::table::Table;

/// A network that is set up, until it is dropped: then all that was made for it is gone, and what was
/// changed is as before. It is dropped in the network namespace in which it was made.
///
/// It says in a few words what it is: `NAT 10.9.8.0/24 on cubie-nat0`.
#[derive(Debug)]
pub struct HostNet {
    kind: Kind,
    dhcp: Option<DhcpServer>,
    table: Option<Table>,
    /// None if an administrator has made all of it.
    seat: Option<Seat>,
    firewall: Vec<String>,
}

/// What one is told about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bridge(String),
    Nat { subnet: Ipv4Net, bridge: String },
    Routed(Ipv4Addr),
}

impl HostNet {
    /// What an administrator has prepared.
    pub(crate) fn prepared(kind: Kind) -> Self {
        Self { kind, dhcp: None, table: None, seat: None, firewall: vec![] }
    }

    /// What was made, under this seat. A firewall that is in the way is told of with the `firewall`'s commands.
    pub(crate) fn made(
        kind: Kind,
        seat: Seat,
        dhcp: Option<DhcpServer>,
        table: Option<Table>,
        firewall: Vec<String>,
    ) -> Self {
        if !firewall.is_empty() {
            let commands = firewall.join("\n  ");
            tracing::warn!(
                "the host's firewall drops what it has no rule for: have root run\n  {commands}"
            );
        }
        Self { kind, dhcp, table, seat: Some(seat), firewall }
    }

    /// The bridge that the tap is part of: others may be made parts of it too.
    pub fn bridge(&self) -> Option<&str> {
        match &self.kind {
            Kind::Bridge(bridge) | Kind::Nat { bridge, .. } => Some(bridge),
            Kind::Routed(_) => None,
        }
    }

    /// The private network of the guest, with NAT.
    pub fn subnet(&self) -> Option<Ipv4Net> {
        match self.kind {
            Kind::Nat { subnet, .. } => Some(subnet),
            Kind::Bridge(_) | Kind::Routed(_) => None,
        }
    }

    /// The commands by which root lets the guest's packets through a firewall that drops what it has no rule
    /// for, as on hosts with Docker. The rules are the firewall's and stay when this network goes.
    pub fn firewall_commands(&self) -> &[String] {
        &self.firewall
    }

    /// Whether an administrator had prepared it, so that nothing was made.
    pub fn is_prepared(&self) -> bool {
        self.seat.is_none()
    }
}

impl fmt::Display for HostNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Bridge(bridge) => write!(f, "bridge {bridge}"),
            Kind::Nat { subnet, bridge } => write!(f, "NAT {subnet} on {bridge}"),
            Kind::Routed(guest) => write!(f, "routed {guest}"),
        }
    }
}

impl Drop for HostNet {
    fn drop(&mut self) {
        self.dhcp = None;
        let Some(seat) = self.seat.take() else { return };
        let cleared = Door::enter().and_then(|mut door| {
            let cleared = door.clear_seat(seat);
            self.table = None; // last, but before another has the seat and makes one of this name
            cleared
        });
        if let Err(error) = cleared {
            tracing::warn!("«{self}» is not taken down whole, but at the next start: {error}");
        }
    }
}
