//! Why there is no tap.

use std::fs::File;
use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::DEVICE;

/// Why there is no tap.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The kernel cannot make taps, or the device was not given to this container.
    #[error("{DEVICE} is missing: load the kernel's module with `modprobe tun`")]
    Missing,
    /// The device may not be opened.
    #[error("{DEVICE} may not be opened: run as root, or get the right to read and write it")]
    Device,
    /// A name that no interface can have.
    #[error("«{0}» cannot be an interface's name: give 1 to 15 letters, digits, `-`, `_` or `.`")]
    Name(String),
    /// Somebody else's end of the cable is plugged in already.
    #[error("the tap {0} is in use by another program: end that, or take another tap")]
    Busy(String),
    /// An interface that is something else.
    #[error("{0} is a network interface, but not a tap (with one queue): take another name")]
    NotATap(String),
    /// An interface that is something else, or a tap for one queue.
    #[error(
        "{0} is a network interface, but not a tap with several queues: take another name, or have root \
         make it by `ip tuntap add dev {0} mode tap multi_queue user $USER`"
    )]
    NotSeveral(String),
    /// Neither root nor the owner of such a tap.
    #[error(
        "not permitted to use a tap called {0}: run as root, or have root run \
         `ip tuntap add dev {0} mode tap user $USER && ip link set {0} up` (for several queues with \
         `multi_queue` behind `mode tap`)"
    )]
    NotPermitted(String),
    /// A macvtap's own device may not be opened.
    #[error(
        "the macvtap {tap} is opened by {node}, which is not permitted: run as root, or have root run \
         `chown $USER {node}`"
    )]
    Node {
        /// The interface.
        tap: String,
        /// Its device.
        node: String,
    },
    /// Something else.
    #[error("cannot {what} the tap: {source}")]
    Host {
        /// What failed.
        what: &'static str,
        /// How.
        source: io::Error,
    },
}

impl TapError {
    /// What the kernel's refusal of TUNSETIFF means.
    pub(super) fn refused(name: &str, several: bool, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EINVAL | libc::EEXIST) if several => Self::NotSeveral(name.into()),
            Some(libc::EBUSY) => Self::Busy(name.into()),
            Some(libc::EINVAL | libc::EEXIST) => Self::NotATap(name.into()),
            // An administrator's tap has a name of its own.
            Some(libc::EPERM) => Self::NotPermitted(name.replace("%d", "0")),
            _ => Self::Host { what: "attach to", source },
        }
    }
}

/// The kernel's `error` about an open tap, as a host end has it: one whose interface was deleted is gone.
pub(super) fn failed(tap: &File, error: io::Error) -> io::Error {
    let gone = match error.raw_os_error() {
        // Of a tap, and of a macvtap.
        Some(libc::EBADFD | libc::ENOLINK) => true,
        // TUNSETQUEUE has one answer to everything.
        Some(libc::EINVAL) => is_hung_up(tap),
        _ => false,
    };
    if gone { io::Error::new(io::ErrorKind::NotFound, "the tap was deleted") } else { error }
}

fn is_hung_up(tap: &File) -> bool {
    let mut ends = [PollFd::new(tap, PollFlags::empty())];
    let asked = poll(&mut ends, Some(&Timespec::default()));
    asked.is_ok() && ends[0].revents().contains(PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_tap_that_was_deleted_is_gone() {
        let file = File::open("/dev/null").unwrap();
        let kind = |errno| failed(&file, io::Error::from_raw_os_error(errno)).kind();
        for gone in [libc::EBADFD, libc::ENOLINK] {
            assert_eq!(kind(gone), io::ErrorKind::NotFound);
        }
        for stays in [libc::EIO, libc::EINVAL, libc::ENOBUFS, libc::EAGAIN] {
            assert_ne!(kind(stays), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        let refused = |several, errno| {
            TapError::refused("tap%d", several, io::Error::from_raw_os_error(errno)).to_string()
        };
        let told = |errno| refused(false, errno);
        assert!(told(libc::EBUSY).contains("in use by another program"));
        assert!(told(libc::EINVAL).contains("not a tap"));
        assert!(told(libc::EPERM).contains("`ip tuntap add dev tap0 mode tap user $USER &&"));
        assert!(refused(true, libc::EINVAL).contains("not a tap with several queues"));
        assert!(told(libc::ENOMEM).starts_with("cannot attach to the tap: "));
    }
}
