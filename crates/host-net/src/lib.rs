//! The host's side of a guest's tap: what it leads to, as a value that undoes itself.
//!
//! For virtual machine monitors whose guests have a tap (`cubie-virtio-net` opens them) and whose users should
//! not have to know how a host's network is put together. A [`HostSide`] says what is wanted, and
//! [`HostSide::set_up`] makes a [`HostNet`] of it:
//!
//! * [`HostSide::Bridge`], public: the tap is part of a bridge that the host has. Nothing else is changed.
//! * [`HostSide::Nat`], private: a bridge of its own with an address of the host, forwarding, a table of
//!   nftables that translates addresses and lets nobody in, and a DHCP server. Each guest has a network of
//!   its own; a second guest joins the first one's by `HostSide::Bridge` and the name of its bridge.
//! * [`HostSide::Routed`]: the host's route to one address leads into the tap, with forwarding, and a DHCP
//!   server that tells the guest.
//!
//! With the last two, a table of nftables also lets nothing out that does not come from the guest's own network or
//! address, nor to 169.254.0.0/16, where clouds tell a machine its secrets.
//!
//! A [`Macvtap`] is a tap of another kind, which is made here and leads to the network of one of the host's cards by
//! itself.
//!
//! # Life of a network
//!
//! 1. *Set up.* One at a time, in one network namespace: what killed programs have left is cleared away, what
//!    is needed is checked against what the host has, and made. If anything fails, all of it is undone.
//! 2. *In use.* The kernel does the work. One thread hands out addresses.
//! 3. *Taken down*, by the drop of the [`HostNet`] or, after SIGKILL, at the next start: everything that was
//!    made is deleted, everything that was changed is as before. Forwarding goes off with the last that needs
//!    it, if it was off before the first; [what comes with it](#what-else-forwarding-changes) is not all undone.
//!
//! # Whose is what
//!
//! What is ours has `cubie-host-net/N` in its alias (`ip link`), and N is a Unix socket of the process that has
//! made it: nobody else can have the name meanwhile, and the kernel frees it however the process ends. Nothing
//! without such a mark, or with that of a living process, is touched, a tap with that of a living process is refused,
//! and a bridge or a macvtap is only deleted if it is called `cubie-natN` or `cubie-macvtapN` too. The tables of nftables belong to the sockets that
//! have made them and vanish with them. That forwarding was off is remembered by a further name of the loopback
//! interface, `cubie-forwarding-was-off`; that the host took no redirects, by `cubie-redirects-were-off`.
//!
//! # What else forwarding changes
//!
//! `net.ipv4.ip_forward` is one switch for the whole host, and cannot be had for one interface: answers to a guest
//! come in by others. While it is on, the host forwards between *all* its interfaces, as far as its firewall lets it.
//! Each time it is moved, Linux sets `net.ipv4.conf.*.forwarding` of every interface with it, and does not take what
//! an administrator had set for one of them into account: that is **not** restored. (It moves
//! `net.ipv4.conf.all.accept_redirects` too, which is restored.) And a program that finds forwarding on, such as
//! Docker's, does not say that it relies on it: the last network switches it off under it. Nothing of this happens on
//! a host that forwards already; whoever has such programs or settings has it on from the start (`/etc/sysctl.d`).
//!
//! # What an administrator prepares
//!
//! Changing a host's network takes root (`CAP_NET_ADMIN`, and `CAP_NET_BIND_SERVICE` for DHCP). Without, the
//! error has the commands for an administrator ([`HostSide::preparation`]): the same mode then finds what it
//! needs at the tap, and makes nothing.
//!
//! # Whose code
//!
//! Requests to the kernel are written by the crates `netlink-bindings` and `netlink-socket2`, which are made from
//! the kernel's own descriptions of rtnetlink and nftables and need neither an asynchronous runtime nor a program.
//! (The crate `nftables` runs `nft`, which hosts without a firewall do not have, and a table cannot be owned by
//! a program that is over; `nftnl` needs libraries in C; `rustables` is under the GPL.) DHCP's messages are those
//! of `smoltcp`.
//!
//! # IPv6
//!
//! Only IPv4 is set up. A public bridge carries whatever it carries. The private bridge has no IPv6, and at the tap of
//! a routed guest the host takes no router advertisement (`accept_ra`, which is as before when the network goes):
//! otherwise a guest could make itself the host's router.
//!
//! ```no_run
//! use cubie_host_net::HostSide;
//!
//! let network = HostSide::Nat(None).set_up("tap0")?;
//! println!("tap0: {network}"); // NAT 10.9.8.0/24 on cubie-nat0
//! // The guest runs, asks by DHCP for an address, and reaches what the host reaches.
//! drop(network); // nothing is left
//! # Ok::<(), cubie_host_net::HostNetError>(())
//! ```
#![forbid(unsafe_code)]

mod claim;
mod dhcp;
mod error;
mod firewall;
mod forwarding;
mod host_net;
mod ipv6;
mod macvtap;
mod nat;
mod preparation;
mod public_bridge;
mod resolvers;
mod routed;
mod rtnetlink;
mod seat;
mod side;
mod table;

pub use error::HostNetError;
pub use host_net::HostNet;
/// A network of IPv4 addresses, such as `10.9.8.0/24`.
pub use ipnet::Ipv4Net;
pub use macvtap::Macvtap;
pub use side::HostSide;
