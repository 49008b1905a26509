//! The host's resolvers, as far as a guest can ask them.

use std::net::{IpAddr, Ipv4Addr};

/// As many as DHCP's answer has room for.
const MOST: usize = 3;
/// What the host uses; and what stands behind systemd's resolver, which listens on the loopback only.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Resolvers beyond the loopback and the host's own cable, where no guest gets ([`crate::table`]): at most three.
pub(crate) fn resolvers() -> Vec<Ipv4Addr> {
    let files = FILES.into_iter().filter_map(|file| std::fs::read_to_string(file).ok());
    let found = files.map(|file| listed(&file)).find(|found| !found.is_empty());
    found.unwrap_or_else(|| {
        tracing::warn!("{} names no resolver that a guest could ask", FILES[0]);
        vec![]
    })
}

fn listed(file: &str) -> Vec<Ipv4Addr> {
    let lines = file.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = lines.filter_map(|rest| match rest.trim().parse() {
        Ok(IpAddr::V4(address)) if !address.is_loopback() && !address.is_link_local() => {
            Some(address)
        }
        _ => None,
    });
    addresses.take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_that_a_guest_can_reach_are_listed() {
        let file = "# made by hand\nsearch example.org\nnameserver 127.0.0.53\nnameserver ::1\n\
                    nameserver 169.254.169.254\n\
                    nameserver 192.0.2.1\n nameserver\t192.0.2.2\noptions edns0\n";
        assert_eq!(listed(file), [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)]);
        assert_eq!(listed("nameserver 127.0.0.53\n"), [] as [Ipv4Addr; 0]);
    }

    #[test]
    fn no_more_are_listed_than_can_be_told() {
        let file: String = (1..9).map(|n| format!("nameserver 192.0.2.{n}\n")).collect();
        assert_eq!(listed(&file).len(), MOST);
    }
}
