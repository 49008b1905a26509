//! Which address of the host's a guest's destination is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use crate::addresses::{is_dns, is_gateway, is_inside};
use crate::forward::Transport;
use crate::metadata::is_metadata;
use crate::ports::Ports;
use crate::resolvers::Resolvers;
use crate::table::Path;
use crate::{Config, Forward};

/// DNS over UDP and TCP.
const DOMAIN: u16 = 53;
/// 64:ff9b::/96, which holds the IPv4 addresses (RFC 6052 §2.1).
const NAT64: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];

/// The one place that decides what a guest reaches.
#[derive(Debug)]
pub(crate) struct Nat {
    restrict: bool,
    host_loopback: bool,
    /// The guest's ends of forwarded UDP ports.
    services: Vec<SocketAddr>,
    resolvers: Resolvers,
}

impl Nat {
    pub(crate) fn new(config: &Config) -> Self {
        let Config { restrict, host_loopback, ref forwards, ref resolvers, .. } = *config;
        let of_udp = |forward: &&Forward| forward.transport == Transport::Udp;
        let services = forwards.iter().filter(of_udp).map(|forward| forward.guest).collect();
        Self { restrict, host_loopback, services, resolvers: Resolvers::new(resolvers) }
    }

    /// Where on the host something that the guest sends to `remote` goes; `None` for nowhere.
    pub(crate) fn host_address(&mut self, remote: SocketAddr, now: Instant) -> Option<SocketAddr> {
        let (address, port) = (remote.ip(), remote.port());
        if self.restrict || port == 0 {
            return None;
        }
        if is_gateway(address) {
            let loopback = match address {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            return self.host_loopback.then_some(SocketAddr::new(loopback, port));
        }
        if is_dns(address) {
            return (port == DOMAIN).then(|| self.resolvers.current(now));
        }
        is_outside(address).then_some(remote)
    }

    /// The same for a datagram that begins a flow. An answer that comes too late, to somebody who has
    /// come by a forwarded port and is forgotten, is for nobody: the host may have a service of its own
    /// at the port of the gateway's that stood for them.
    pub(crate) fn host_address_of(&mut self, path: &Path, now: Instant) -> Option<SocketAddr> {
        let answers = self.services.contains(&path.guest) && Ports::may_have_given(path.remote);
        if answers { None } else { self.host_address(path.remote, now) }
    }

    /// Whether the guest may ping `address`, of another host.
    pub(crate) fn may_ping(&self, address: IpAddr) -> bool {
        !self.restrict && is_outside(address)
    }
}

/// Whether an address can be another host's: not one of this host alone, or of its links, by whatever
/// notation, nor one where its cloud talks to it alone. Linux takes the unspecified address for its
/// loopback, and the host's network may translate [`NAT64`].
fn is_outside(address: IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            v4.is_loopback() || v4.is_link_local() || first == 0 || first >= 224
        }
        IpAddr::V6(v6) => {
            let holds_v4 = v6.to_ipv4().is_some(); // mapped, compatible, :: and ::1
            let [translated @ .., a, b, c, d] = v6.octets();
            holds_v4
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || translated == NAT64 && !is_outside([a, b, c, d].into())
        }
    };
    !special && !is_inside(address) && !is_metadata(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nat(config: Config) -> impl FnMut(&str) -> Option<String> {
        let mut nat =
            Nat::new(&Config { resolvers: vec!["9.9.9.9:5353".parse().unwrap()], ..config });
        move |remote| {
            nat.host_address(remote.parse().unwrap(), Instant::now()).map(|a| a.to_string())
        }
    }

    #[test]
    fn the_gateway_is_the_host_and_the_name_server_its_resolver() {
        let mut to = nat(Config::default());
        for (remote, host) in [
            ("10.0.2.2:80", Some("127.0.0.1:80")),
            ("[fd00:10:0:2::2]:80", Some("[::1]:80")),
            ("[fe80::2]:80", Some("[::1]:80")),
            ("10.0.2.3:53", Some("9.9.9.9:5353")),
            ("[fd00:10:0:2::3]:53", Some("9.9.9.9:5353")),
            ("10.0.2.3:80", None),
            ("93.184.216.34:80", Some("93.184.216.34:80")),
            ("[64:ff9b::1.2.3.4]:80", Some("[64:ff9b::102:304]:80")),
            ("[2001:db8::1]:80", Some("[2001:db8::1]:80")),
        ] {
            assert_eq!(to(remote).as_deref(), host, "{remote}");
        }
    }

    #[test]
    fn no_notation_of_an_address_reaches_the_hosts_own() {
        let mut to = nat(Config::default());
        for remote in [
            "127.0.0.1:80",
            "127.9.9.9:80",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "169.254.169.254:80",
            "224.0.0.251:5353",
            "240.0.0.1:80",
            "255.255.255.255:80",
            "10.0.2.99:80",
            "10.0.2.255:80",
            "1.2.3.4:0",
            "[::]:80",
            "[::1]:80",
            "[::127.0.0.1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:1.2.3.4]:80",
            "[64:ff9b::127.0.0.1]:80",
            "[64:ff9b::169.254.169.254]:80",
            "[fe80::1]:80",
            "[ff02::1]:80",
            "[fd00:10:0:2::99]:80",
        ] {
            assert_eq!(to(remote), None, "{remote}");
        }
    }

    #[test]
    fn no_clouds_metadata_is_reached_or_pinged() {
        let mut to = nat(Config::default());
        let nat = Nat::new(&Config::default());
        for address in [
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fd00:a9fe:a9fe::1",
            "fd00:100::100:200",
            "64:ff9b::168.63.129.16",
            "fe80::a9fe:a9fe",
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(to(&SocketAddr::new(address, 80).to_string()), None, "{address}");
            assert!(!nat.may_ping(address), "{address}");
        }
        // Their neighbours are anybody's.
        for address in ["100.100.100.201", "168.63.129.17", "fd00:ec3::254", "fd20:ce::253"] {
            let address: IpAddr = address.parse().unwrap();
            assert!(to(&SocketAddr::new(address, 80).to_string()).is_some(), "{address}");
            assert!(nat.may_ping(address), "{address}");
        }
    }

    #[test]
    fn a_resolver_that_is_a_clouds_is_asked_as_the_name_server() {
        let azure: SocketAddr = "168.63.129.16:53".parse().unwrap();
        let mut nat = Nat::new(&Config { resolvers: vec![azure], ..Config::default() });
        let now = Instant::now();
        assert_eq!(nat.host_address("10.0.2.3:53".parse().unwrap(), now), Some(azure));
        assert_eq!(nat.host_address(azure, now), None);
    }

    #[test]
    fn what_is_switched_off_is_nowhere() {
        let mut to = nat(Config { host_loopback: false, ..Config::default() });
        assert_eq!(to("10.0.2.2:80"), None);
        assert!(to("10.0.2.3:53").is_some() && to("1.2.3.4:80").is_some());
        let mut to = nat(Config { restrict: true, ..Config::default() });
        for remote in ["10.0.2.2:80", "10.0.2.3:53", "1.2.3.4:80", "[2001:db8::1]:80"] {
            assert_eq!(to(remote), None, "{remote}");
        }
    }
}
