//! Why a front-end is served no more.

use std::io;

use cubie_virtio_core::{Features, StartError};
use vhost::vhost_user::VhostUserProtocolFeatures;
use vhost::vhost_user::message::FrontendReq;

/// Why a front-end was dropped. All but [`Dropped::Host`] and [`Dropped::Device`] are its own fault.
#[derive(Debug, thiserror::Error)]
pub enum Dropped {
    /// It left in the middle of a message.
    #[error("it left in the middle of a message")]
    Truncated,
    /// It did not finish a message, or did not take an answer, for ten seconds.
    #[error("it did not go on with a message")]
    Stalled,
    /// A message is longer than any can be.
    #[error("a message of {0} bytes")]
    TooLong(u32),
    /// The header's flags are not those of a request of version 1.
    #[error("a message with the flags {0:#x}, which are not those of a request of version 1")]
    Flags(u32),
    /// More file descriptors than any message has, or than this process may have.
    #[error("more file descriptors with a message than there can be")]
    TooManyFiles,
    /// A request that is not known, or is of a feature that was not offered.
    #[error("request {0} is not known here")]
    Unknown(u32),
    /// A request of a protocol feature that was not negotiated.
    #[error("{request:?} without {feature:?}")]
    NotNegotiated {
        /// What it asked for.
        request: FrontendReq,
        /// What it should have negotiated before.
        feature: VhostUserProtocolFeatures,
    },
    /// A message whose body is not as it has to be.
    #[error("{request:?}: {what}")]
    Body {
        /// What it asked for.
        request: FrontendReq,
        /// What is wrong.
        what: &'static str,
    },
    /// Not as many file descriptors as belong to the message.
    #[error("{request:?} with {got} file descriptors")]
    Files {
        /// What it asked for.
        request: FrontendReq,
        /// How many there were.
        got: usize,
    },
    /// Features that were not offered.
    #[error("it wants features that were not offered: {:#x}", .0.0)]
    Features(Features),
    /// Protocol features that were not offered.
    #[error("it wants protocol features that were not offered: {0:#x}")]
    ProtocolFeatures(u64),
    /// A queue that the device does not have.
    #[error("the device has no queue {0}")]
    Queue(u32),
    /// A queue of a size that none has.
    #[error("queue {index} cannot have {size} entries")]
    Size {
        /// Which queue.
        index: u16,
        /// What was wanted.
        size: u32,
    },
    /// A descriptor that is no eventfd, or none where there has to be one.
    #[error("the {role} of queue {index} is not an eventfd")]
    NoEvent {
        /// What it was to be: kick, call, or error.
        role: &'static str,
        /// Of which queue.
        index: u16,
    },
    /// Memory that cannot be mapped, overlaps with other memory, is not there, or is too much.
    #[error("memory of {size:#x} bytes at {guest:#x}: {what}")]
    Memory {
        /// Guest-physical address.
        guest: u64,
        /// Bytes.
        size: u64,
        /// What is wrong.
        what: String,
    },
    /// The device does not start, for a reason that is not the driver's.
    #[error("the device does not start: {0}")]
    Device(StartError),
    /// The host refused something.
    #[error("the host: {0}")]
    Host(#[from] io::Error),
}

impl From<rustix::io::Errno> for Dropped {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Host(errno.into())
    }
}
