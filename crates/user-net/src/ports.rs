//! Ports of the gateway's own.

use std::net::SocketAddr;

use crate::addresses::{GATEWAY, GATEWAY6};
use crate::table::Path;

/// Dynamic ports begin here (RFC 6335 §6).
const FIRST: u16 = 49_152;

/// Hands out ports of the gateway, each of which stands for somebody on the host's side.
#[derive(Debug)]
pub(crate) struct Ports(u16);

impl Ports {
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    /// Whether `remote` may be somebody on the host's side.
    pub(crate) fn may_have_given(remote: SocketAddr) -> bool {
        let gateway = remote.ip() == GATEWAY || remote.ip() == GATEWAY6;
        gateway && remote.port() >= FIRST
    }

    /// A way to `guest` that is not `taken`; when all are, one that is.
    pub(crate) fn path_to(&mut self, guest: SocketAddr, taken: impl Fn(&Path) -> bool) -> Path {
        let gateway = if guest.is_ipv4() { GATEWAY.into() } else { GATEWAY6.into() };
        let mut path = Path { guest, remote: SocketAddr::new(gateway, self.0) };
        for _ in FIRST..=u16::MAX {
            path.remote.set_port(self.0);
            self.0 = self.0.checked_add(1).unwrap_or(FIRST);
            if !taken(&path) {
                break;
            }
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_not_handed_out_again() {
        let mut ports = Ports::new();
        let guest = SocketAddr::from(([10, 0, 2, 15], 22));
        let first = ports.path_to(guest, |_| false);
        assert_eq!(first.remote, "10.0.2.2:49152".parse().unwrap());
        for _ in FIRST..u16::MAX {
            assert_ne!(ports.path_to(guest, |path| *path == first), first);
        }
        assert_ne!(ports.path_to(guest, |path| *path == first), first, "round once");
        ports.path_to(guest, |_| true); // comes to an end
    }
}
