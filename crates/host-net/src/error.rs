//! Why a network was not set up.

use std::io;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Why the host's side of a tap was not set up. Whatever had been made until then is gone again.
#[derive(Debug, thiserror::Error)]
pub enum HostNetError {
    /// The tap, or whatever takes its place.
    #[error("there is no network interface {0}")]
    NoInterface(String),
    /// A public bridge belongs to the host and is not made here.
    #[error(
        "there is no bridge {0}: have root make it with \
         `ip link add {0} type bridge && ip link set {0} up`, or name another"
    )]
    NoBridge(String),
    /// An interface that is something else.
    #[error("{0} is a network interface, but not a bridge: name a bridge")]
    NotABridge(String),
    /// What is given as a tap is something else, such as the host's own card or a bridge.
    #[error("`tap` is {0}, which is a network interface, but not a tap: name a tap")]
    NotATap(String),
    /// Another network of this kind is set up for it, and its process lives.
    #[error("{tap} is in use for another guest (`ip link` has {mark} at it): take another tap")]
    TapTaken {
        /// The tap.
        tap: String,
        /// What its alias says.
        mark: String,
    },
    /// A cable has one end.
    #[error(
        "{tap} is part of {bridge} already: have root take it out with \
         `ip link set {tap} nomaster`, or take another tap"
    )]
    InAnother {
        /// The tap.
        tap: String,
        /// What it is part of.
        bridge: String,
    },
    /// No room for a host and a guest, or not addresses of hosts.
    #[error("{given} cannot be a private network: give one like {fitting}")]
    Subnet {
        /// What was asked for.
        given: Ipv4Net,
        /// What would be possible.
        fitting: Ipv4Net,
    },
    /// The host would lose the way to what it reaches there.
    #[error("{subnet} overlaps with {route}, which this host reaches otherwise: give another")]
    Overlap {
        /// What was asked for.
        subnet: Ipv4Net,
        /// What is there.
        route: Ipv4Net,
    },
    /// All default networks are in use.
    #[error("all networks from 10.9.8.0/24 to 10.9.255.0/24 are in use here: give another")]
    NoFreeSubnet,
    /// Not the address of a host.
    #[error("{0} cannot be a guest's address")]
    Address(Ipv4Addr),
    /// The address is somebody's already.
    #[error("{address} is reached by {interface} already: give the guest another address")]
    AddressTaken {
        /// The guest's address.
        address: Ipv4Addr,
        /// The interface of another guest, or of the host itself.
        interface: String,
    },
    /// An administrator has prepared something, but not all of it.
    #[error("{missing}: have root run `{command}`")]
    NotPrepared {
        /// What is missing.
        missing: String,
        /// What makes it.
        command: String,
    },
    /// The host's network is root's.
    #[error(
        "not permitted to {what}: run as root, or have root prepare it once with\n  {}", commands.join("\n  ")
    )]
    NotPermitted {
        /// What was tried.
        what: &'static str,
        /// What an administrator runs.
        commands: Vec<String>,
    },
    /// The kernel or somebody else's program is in the way.
    #[error("cannot {what}: {source}")]
    Host {
        /// What failed.
        what: &'static str,
        /// How.
        source: io::Error,
    },
}

impl HostNetError {
    /// `what` failed; without permission, an administrator runs `commands` beforehand.
    pub(crate) fn refused(
        what: &'static str,
        source: io::Error,
        commands: impl FnOnce() -> Vec<String>,
    ) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted { what, commands: commands() },
            _ => Self::Host { what, source },
        }
    }
}
