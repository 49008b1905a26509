//! What a guest could do to its host by IPv6, which is not set up here, but is on wherever nobody says otherwise:
//! with one router advertisement it would be the host's default router (RFC 4861 §6.3.4).

use std::io;

/// No IPv6 on `interface`, which is ours.
pub(crate) fn switch_off(interface: &str) -> io::Result<()> {
    set(interface, "disable_ipv6", "1")
}

/// Whether the host takes routers that make themselves known at `interface` (`accept_ra`); none without IPv6.
pub(crate) fn takes_routers(interface: &str) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path(interface, "accept_ra")) {
        Ok(takes) => Ok(Some(takes.trim().into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Unlike without IPv6, the owner's own addresses stay: `interface` lends itself only.
pub(crate) fn take_routers(interface: &str, takes: &str) -> io::Result<()> {
    set(interface, "accept_ra", takes)
}

/// Makes a setting `value`, unless it is, or there is no IPv6.
fn set(interface: &str, setting: &str, value: &str) -> io::Result<()> {
    let path = path(interface, setting);
    let is_set = std::fs::read_to_string(&path).map(|is| is.trim() == value);
    match is_set.and_then(|is| if is { Ok(()) } else { std::fs::write(&path, value) }) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Of the network namespace of the thread that opens it.
fn path(interface: &str, setting: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{interface}/{setting}")
}
