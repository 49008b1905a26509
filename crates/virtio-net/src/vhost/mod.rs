//! vhost-net: the kernel serves a pair of queues itself (Linux, drivers/vhost/net.c).
//!
//! Kicks reach it as eventfds and its interrupts are eventfds, which for registers in a page are those of
//! the irqfd: no frame needs a visit to this process. What stays here is the control plane, and a worker
//! that sleeps until the driver commands something, or breaks its queues.

mod handler;
mod kernel;
mod queue;

use std::io;

use cubie_virtio_core::Features;

use crate::protocol::{CTRL_RX, CTRL_RX_EXTRA, CTRL_VLAN, MRG_RXBUF};

pub(crate) use handler::InKernel;
pub(crate) use kernel::Vhost;
pub(crate) use queue::{KernelQueue, Lent};

/// What of `features` a driver is still offered when a kernel that has the features `kernel` moves the frames:
/// it filters none.
pub(crate) fn offered(features: Features, kernel: Features) -> Features {
    let filters = CTRL_RX.with(CTRL_RX_EXTRA).with(CTRL_VLAN);
    let unmerged = if kernel.has(MRG_RXBUF) { Features(0) } else { MRG_RXBUF };
    Features(features.0 & !filters.with(unmerged).0)
}

const DEVICE: &str = "/dev/vhost-net";

/// Why the kernel cannot serve the queues.
#[derive(Debug, thiserror::Error)]
pub enum VhostError {
    /// The kernel has no vhost-net, or the device was not given to this container.
    #[error("{DEVICE} is missing: load the kernel's module with `modprobe vhost_net`")]
    Missing,
    /// The device may not be opened.
    #[error("{DEVICE} may not be opened: run as root, or get the right to read and write it")]
    NotPermitted,
    /// The host end is none of the kernel's.
    #[error("the kernel can serve the queues of a tap only")]
    NoTap,
    /// Something else.
    #[error("cannot {what}: {source}")]
    Host {
        /// What failed.
        what: &'static str,
        /// How.
        source: io::Error,
    },
}

impl VhostError {
    /// What the kernel's refusal to open the device means.
    fn refused(source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Self::Missing,
            Some(libc::EACCES | libc::EPERM) => Self::NotPermitted,
            _ => Self::Host { what: "open /dev/vhost-net", source },
        }
    }
}

/// The host's blame in `error`.
fn io_error(error: vhost::Error) -> io::Error {
    match error {
        vhost::Error::VhostOpen(error)
        | vhost::Error::IoctlError(error)
        | vhost::Error::IOError(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let told = |errno| VhostError::refused(io::Error::from_raw_os_error(errno)).to_string();
        assert!(told(libc::ENOENT).contains("`modprobe vhost_net`"));
        assert!(told(libc::EACCES).contains("may not be opened"));
        assert!(told(libc::EMFILE).starts_with("cannot open /dev/vhost-net: "));
    }
}
