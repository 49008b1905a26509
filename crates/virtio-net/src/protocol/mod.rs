//! Bytes of the network device's specification (VIRTIO 1.4 §5.1).

mod command;
pub(crate) mod config;
mod features;
mod header;

use std::ops::RangeInclusive;

pub(crate) use command::{Ack, Command, MOST_COMMAND, RxMode};
pub use config::Duplex;
pub(crate) use features::*;
pub use header::NetHeader;

/// Bytes of a frame: at least an Ethernet header, at most what §5.1.6.3.1 makes room for.
pub(crate) const FRAME_LEN: RangeInclusive<usize> = 14..=65_550;

/// Bytes of a frame beside what the MTU counts: an Ethernet header, and a VLAN tag.
pub(crate) const BESIDE_MTU: usize = 18;

/// Index of the queue that brings the guest frames of pair `pair` (§5.1.2).
pub(crate) const fn receive(pair: usize) -> usize {
    2 * pair
}

/// Index of the queue that takes the guest's frames of pair `pair` (§5.1.2).
pub(crate) const fn transmit(pair: usize) -> usize {
    2 * pair + 1
}

/// Index of the control queue of a driver that knows of so many pairs: one without MQ knows of one
/// (§5.1.2).
pub(crate) const fn control(pairs: usize) -> usize {
    2 * pairs
}
