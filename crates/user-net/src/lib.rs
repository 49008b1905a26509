//! A network for a guest without privileges: the guest reaches out, nobody reaches in, and the host
//! needs no root, no daemon and no interface. What others call user-mode networking or slirp.
//!
//! ```text
//!  the guest                        the VMM's process                             the host
//! ┌───────────────┐  Ethernet  ┌──────────────────────────────────┐  sockets  ┌──────────────────┐
//! │ 10.0.2.15     │◄──────────►│ 10.0.2.2  gateway, the host      │◄─────────►│ 127.0.0.1, ::1   │
//! │ fd00:10:0:2:… │            │ 10.0.2.3  name server            │           │ its resolver     │
//! │               │            │ TCP, UDP and pings end here      │           │ everybody else   │
//! └───────────────┘            └──────────────────────────────────┘           └──────────────────┘
//! ```
//!
//! Connections of the guest's end in the gateway, which speaks TCP with it ([smoltcp]), and go on as
//! connections of this process; so do datagrams and pings. For everybody else the guest's traffic is
//! that of the VMM, with its address and its rights.
//!
//! * [`UserNet`]: the host end for a card of `cubie-virtio-net`.
//! * [`Gateway`]: the same with frames as bytes, for cards of another kind, and with time as an
//!   argument, for tests.
//! * [`Outside`]: what makes its sockets, if not this process alone.
//! * [`Config`]: what the guest may reach, and how much of all there may be ([`Limits`]).
//! * [`Forward`]: a port of the host's that leads to one of the guest's, the only way in.
//! * [`addresses`]: who has which address.
//!
//! # What the guest finds
//!
//! | | |
//! |---|---|
//! | DHCP, router advertisements | its addresses, the gateway, the name server; one lease, the same for whoever asks |
//! | DNS | UDP and TCP to 10.0.2.3 go to the host's first resolver (`/etc/resolv.conf`) |
//! | TCP | a connection is answered when the host's is open, and refused when that is; each side's end and resets reach the other |
//! | UDP | a socket a flow, connected: only who was asked can answer; errors come back as ICMP |
//! | ping | the gateway answers itself; others are asked where `net.ipv4.ping_group_range` has this process |
//! | 10.0.2.2 | the host's own loopback, **with all services there**, unless [`Config::host_loopback`] is off |
//!
//! What it does not find: parts of IP packets (datagrams over 1472 bytes), multicast and broadcast,
//! addresses that are the host's alone in any notation (loopback, link-local, unspecified, mapped),
//! and those where clouds have their metadata services.
//! The host's other addresses are reached like everybody's: whoever wants none of it uses
//! [`Config::restrict`]. From a UDP port that is forwarded to the guest, the gateway's ports from 49152
//! are those who came in, and never the host's loopback.
//!
//! # How it runs
//!
//! 1. [`UserNet::new`] listens on the forwarded ports. One that is in use is the builder's error.
//! 2. A frame of the guest's is looked at as it is sent. One that cannot be right is dropped.
//! 3. All sockets, a timer and an eventfd are in one epoll, which is what the card's worker waits for.
//!    There is no thread and no lock.
//! 4. When the guest has a buffer and no frame waits, the gateway looks at what has happened, moves
//!    bytes, and makes frames, as long as there is room for them. So a guest without buffers makes the
//!    host's sockets wait, and a host that does not read makes the guest wait: its window is what is
//!    left of one connection's buffer. A connection that waits for the host has no timer but that for
//!    being idle.
//! 5. A flow ends with both its ends, by a reset of either, when it was idle for too long, or when
//!    another one needs its place. Those who come by a forwarded port and the guest's own flows have
//!    places apart: neither takes one of the other's.
//!
//! The guest's checksums and segments of any length are taken as they are
//! (`VIRTIO_NET_F_CSUM`, `VIRTIO_NET_F_HOST_TSO4`, `…6`), and given so to a driver that takes them
//! (`VIRTIO_NET_F_GUEST_CSUM`, `VIRTIO_NET_F_GUEST_TSO4`, `…6`): up to 64 KiB of a stream are one frame
//! each way. For other drivers they are cut and summed as they leave.
//!
//! ```
//! use cubie_user_net::{Config, UserNet};
//! use cubie_virtio_net::{Mac, Net};
//!
//! let config = Config { forwards: vec!["tcp:127.0.0.1:0-:22".parse()?], ..Config::default() };
//! let network = UserNet::new(&config)?;
//! let ssh = network.forwards().next().map(|forward| forward.host);
//! println!("ssh to the guest at {ssh:?}");
//! let card = Net::new(network, Mac::made_from("my guest"));
//! # drop(card);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [smoltcp]: https://docs.rs/smoltcp

pub mod addresses;
mod arp;
mod backend;
mod config;
mod datagrams;
mod dhcp;
mod doors;
mod ends;
mod error;
mod events;
mod forward;
mod frames;
mod gateway;
mod icmp;
mod metadata;
mod nat;
mod ndp;
mod neighbours;
mod outside;
mod packet;
mod ports;
mod resolvers;
mod segment;
mod socket;
mod table;
mod tcp;
mod udp;

pub use backend::UserNet;
pub use config::{Config, Limits};
pub use error::UserNetError;
pub use forward::{Forward, ForwardError, Transport};
pub use gateway::Gateway;
pub use outside::{HostSockets, Outside};
