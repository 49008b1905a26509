//! Why a state is not restored.

use crate::{Interface, TransportState};

/// What is wrong with a state for the transport, or the device, that it was to go into. The builder's
/// blame, or that of whoever wrote the file; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Only a transport that no driver has begun with takes a state.
    #[error("a driver is at work here: restore into a new transport, or reset this one before")]
    InUse,
    /// Another version of the format.
    #[error(
        "the state has version {0}, and this program reads version {known}",
        known = TransportState::VERSION
    )]
    Version(u32),
    /// Another kind of device.
    #[error("the state is of a device {saved}, and a device {here} is plugged in here")]
    Device {
        /// Its [`DeviceId`](crate::DeviceId).
        saved: u32,
        /// That of the device here.
        here: u32,
    },
    /// The driver knows another layout of the registers.
    #[error("the state is of {saved:?} registers, and they are {here:?} here: choose the same")]
    Interface {
        /// The driver's.
        saved: Interface,
        /// The transport's.
        here: Interface,
    },
    /// The driver was offered something else.
    #[error(
        "the state's driver was offered features {saved:#x}, and here are {here:#x}: choose the same \
         rings, and make the device with the same options"
    )]
    Features {
        /// Offered to the driver.
        saved: u64,
        /// Offered here.
        here: u64,
    },
    /// The device had another number of queues.
    #[error("the state has {saved} queues, and the device here has {here}")]
    Queues {
        /// Queues of the state.
        saved: usize,
        /// Queues of the device.
        here: usize,
    },
    /// One of its queues could be longer, or not as long.
    #[error("the state's queue {queue} holds up to {saved}, and the device's up to {here}")]
    QueueMax {
        /// Which.
        queue: usize,
        /// The state's.
        saved: u16,
        /// The device's.
        here: u16,
    },
    /// The configuration space had another length.
    #[error("the state's configuration has {saved} bytes, and the device's here {here}")]
    Config {
        /// Bytes of the state.
        saved: usize,
        /// Bytes of the device.
        here: usize,
    },
    /// No transport comes to such a state: the file was damaged, or is none of ours.
    #[error("the state is damaged: {0}")]
    Damaged(&'static str),
    /// What the device has to say of its own part.
    #[error("the device cannot take its own state: {0}")]
    Refused(String),
}
