//! Ports of the host that lead to the guest, as one writes them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use crate::addresses::{GUEST, is_dns, is_gateway, is_inside};

/// The transport of a [`Forward`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A port of the host that leads to a port of the guest, written as for QEMU:
/// `tcp:127.0.0.1:8022-:22`, `udp:[::1]:5353-10.0.2.15:53`.
///
/// Without a host's address it is 127.0.0.1, not all of the host's (write `0.0.0.0` for that); without
/// a guest's it is 10.0.2.15.
///
/// ```
/// use cubie_user_net::Forward;
///
/// let ssh: Forward = "tcp::8022-:22".parse()?;
/// assert_eq!(ssh.to_string(), "tcp:127.0.0.1:8022-10.0.2.15:22");
/// # Ok::<(), cubie_user_net::ForwardError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Forward {
    /// Connections or datagrams.
    pub transport: Transport,
    /// Where the host listens.
    pub host: SocketAddr,
    /// Where it leads.
    pub guest: SocketAddr,
}

/// Why a text is not a [`Forward`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("«{text}» is not a port forward ({what}): give tcp:127.0.0.1:8022-:22, or udp:…")]
pub struct ForwardError {
    text: String,
    what: &'static str,
}

impl FromStr for Forward {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, ForwardError> {
        let wrong = |what| ForwardError { text: text.into(), what };
        let (transport, rest) = match text.split_once(':') {
            Some(("tcp", rest)) => (Transport::Tcp, rest),
            Some(("udp", rest)) => (Transport::Udp, rest),
            _ => return Err(wrong("it begins with tcp: or udp:")),
        };
        let (host, guest) = rest.split_once('-').ok_or(wrong("no `-` before the guest's end"))?;
        let host = end(host, Ipv4Addr::LOCALHOST).ok_or(wrong("the host's ADDRESS:PORT"))?;
        let guest = end(guest, GUEST).ok_or(wrong("the guest's ADDRESS:PORT"))?;
        let address = guest.ip();
        let others = is_gateway(address) || is_dns(address);
        if guest.port() == 0 || !is_inside(address) || others {
            return Err(wrong("the guest's end is in 10.0.2.0/24 or fd00:10:0:2::/64"));
        }
        Ok(Self { transport, host, guest })
    }
}

/// `[ADDRESS]:PORT`.
fn end(text: &str, default: Ipv4Addr) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let address = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(literal) => IpAddr::V6(literal.parse().ok()?),
        None if address.is_empty() => IpAddr::V4(default),
        None => IpAddr::V4(address.parse().ok()?),
    };
    let digits = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
    let port = digits.then(|| port.parse().ok()).flatten()?;
    Some(SocketAddr::new(address, port))
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        write!(f, "{transport}:{}-{}", self.host, self.guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_comes_back() {
        for text in [
            "tcp:127.0.0.1:8022-10.0.2.15:22",
            "udp:[::1]:5353-10.0.2.15:53",
            "tcp:0.0.0.0:0-[fd00:10:0:2::15]:80",
        ] {
            assert_eq!(text.parse::<Forward>().unwrap().to_string(), text);
        }
        let short: Forward = "tcp::8022-:22".parse().unwrap();
        assert_eq!(short.to_string(), "tcp:127.0.0.1:8022-10.0.2.15:22");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, what) in [
            ("8022-:22", "tcp: or udp:"),
            ("sctp::8022-:22", "tcp: or udp:"),
            ("tcp::8022", "no `-`"),
            ("tcp:8022-:22", "host's"),
            ("tcp:::1:8022-:22", "host's"),
            ("tcp:host:8022-:22", "host's"),
            ("tcp::+8022-:22", "host's"),
            ("tcp::65536-:22", "host's"),
            ("tcp::8022-22", "guest's"),
            ("tcp::8022-:0", "10.0.2.0/24"),
            ("tcp::8022-10.0.3.15:1", "10.0.2.0/24"),
            ("tcp::8022-10.0.2.2:1", "10.0.2.0/24"),
            ("tcp::8022-[fe80::15]:1", "fd00:10:0:2::/64"),
        ] {
            let error = text.parse::<Forward>().unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("give tcp:"), "{text}: {error}");
        }
    }
}
