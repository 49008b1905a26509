//! The host's name servers.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const FILE: &str = "/etc/resolv.conf";
/// The file is read again after so long: a host moves from one network to another.
const STALE: Duration = Duration::from_secs(5);
const DOMAIN: u16 = 53;

/// Where DNS queries go.
#[derive(Debug)]
pub(crate) struct Resolvers {
    fixed: Option<SocketAddr>,
    read: Option<(Instant, SocketAddr)>,
}

impl Resolvers {
    /// Those that are given; the host's own if none is.
    pub(crate) fn new(given: &[SocketAddr]) -> Self {
        Self { fixed: given.first().copied(), read: None }
    }

    /// The one to ask `now`.
    pub(crate) fn current(&mut self, now: Instant) -> SocketAddr {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        match self.read {
            Some((when, resolver)) if now < when + STALE => resolver,
            _ => {
                let text = fs::read_to_string(FILE).unwrap_or_default();
                let resolver = SocketAddr::new(first(&text), DOMAIN);
                self.read = Some((now, resolver));
                resolver
            }
        }
    }
}

/// The first server of a resolv.conf; without one it is this host (resolv.conf(5)).
fn first(text: &str) -> IpAddr {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "nameserver")?;
        words.next()?.parse().ok()
    };
    text.lines().find_map(address).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_server_is_taken_and_this_host_without_one() {
        for (text, expected) in [
            ("# nameserver 1.1.1.1\nsearch x\nnameserver 2.2.2.2\nnameserver 3.3.3.3", "2.2.2.2"),
            ("nameserver fe80::1%eth0\nnameserver\t2001:db8::1 # here", "2001:db8::1"),
            ("nameservers 1.1.1.1\nnameserver", "127.0.0.1"),
            ("", "127.0.0.1"),
        ] {
            assert_eq!(first(text).to_string(), expected, "{text}");
        }
    }
}
