//! Whether this host forwards packets from one interface to another.

use std::ffi::CStr;
use std::io;

use crate::HostNetError;
use crate::rtnetlink::Rtnetlink;

/// Of the network namespace of the thread that opens it.
const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
/// The loopback interface gets this further name when we switch forwarding on: the memory of it lives
/// as long as the switch, and longer than any process.
const MEMORY: &CStr = c"cubie-forwarding-was-off";
/// As [`MEMORY`], of a host that takes no ICMP redirects: the switch moves that setting too, and to the worse.
const REDIRECTS_MEMORY: &CStr = c"cubie-redirects-were-off";
const REDIRECTS: &str = "/proc/sys/net/ipv4/conf/all/accept_redirects";
const LOOPBACK: u32 = 1;

/// The switch for IPv4, on as long as somebody needs it.
///
/// With it, Linux sets `forwarding` of each interface, and `accept_redirects` to the opposite (inet_forward_change
/// in devinet.c). To switch our interface alone would not do: the answers come in by others.
pub(crate) struct Forwarding;

impl Forwarding {
    pub(crate) fn is_on() -> io::Result<bool> {
        Ok(std::fs::read_to_string(SWITCH)?.trim() != "0")
    }

    /// Switches it on, unless it is.
    pub(crate) fn need(rtnetlink: &mut Rtnetlink) -> io::Result<()> {
        if Self::is_on()? {
            return Ok(());
        }
        remember(rtnetlink, MEMORY)?;
        if std::fs::read_to_string(REDIRECTS)?.trim() == "0" {
            remember(rtnetlink, REDIRECTS_MEMORY)?;
        }
        std::fs::write(SWITCH, "1")
    }

    /// As it was, since nobody needs it any more.
    pub(crate) fn restore(rtnetlink: &mut Rtnetlink) -> io::Result<()> {
        if rtnetlink.is_named(MEMORY)? {
            std::fs::write(SWITCH, "0")?;
            if rtnetlink.is_named(REDIRECTS_MEMORY)? {
                std::fs::write(REDIRECTS, "0")?;
                rtnetlink.delete_name(LOOPBACK, REDIRECTS_MEMORY)?;
            }
            rtnetlink.delete_name(LOOPBACK, MEMORY)?;
        }
        Ok(())
    }

    /// An error if it is off.
    pub(crate) fn check() -> Result<(), HostNetError> {
        match Self::is_on() {
            Ok(true) => Ok(()),
            Ok(false) => Err(HostNetError::NotPrepared {
                missing: "this host does not forward packets".into(),
                command: COMMAND.into(),
            }),
            Err(source) => Err(HostNetError::Host { what: "ask whether it forwards", source }),
        }
    }
}

/// The loopback interface has this name from now on, if it had not.
fn remember(rtnetlink: &mut Rtnetlink, what: &CStr) -> io::Result<()> {
    match rtnetlink.add_name(LOOPBACK, what) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result,
    }
}

/// What an administrator runs.
pub(crate) const COMMAND: &str = "sysctl -w net.ipv4.ip_forward=1";
