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

use crate::protocol::{CTRL_RX, CTRL_RX_EXTRA, CTRL_VLAN, MRG_RXBUF, NOTF_COAL, VQ_NOTF_COAL};

pub(crate) use handler::InKernel;
pub(crate) use kernel::Vhost;
pub(crate) use queue::{KernelQueue, Lent};

/// What of `features` a driver is still offered when a kernel that has the features `kernel` moves the frames:
/// it filters none, and has no interrupt wait.
pub(crate) fn offered(features: Features, kernel: Features) -> Features {
    let filters = CTRL_RX.with(CTRL_RX_EXTRA).with(CTRL_VLAN);
    let coalescing = NOTF_COAL.with(VQ_NOTF_COAL);
    let unmerged = if kernel.has(MRG_RXBUF) { Features(0) } else { MRG_RXBUF };
    Features(features.0 & !filters.with(coalescing).with(unmerged).0)
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
    fn what_the_kernel_does_not_do_is_not_offered() {
        let all = Features(u64::MAX);
        let left = offered(all, MRG_RXBUF);
        let gone = [CTRL_RX, CTRL_RX_EXTRA, CTRL_VLAN, NOTF_COAL, VQ_NOTF_COAL];
        assert_eq!(Features(!left.0), gone.into_iter().fold(Features(0), Features::with));
        assert_eq!(offered(all, Features(0)).0, left.0 & !MRG_RXBUF.0);
    }

    #[test]
    fn refusals_are_told_apart() {
        let told = |errno| VhostError::refused(io::Error::from_raw_os_error(errno)).to_string();
        assert!(told(libc::ENOENT).contains("`modprobe vhost_net`"));
        assert!(told(libc::EACCES).contains("may not be opened"));
        assert!(told(libc::EMFILE).starts_with("cannot open /dev/vhost-net: "));
    }
}
