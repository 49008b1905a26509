//! Bytes of the network device's specification (VIRTIO 1.4 §5.1).

mod command;
mod features;
mod header;

use std::ops::RangeInclusive;

use virtio_bindings::virtio_net::VIRTIO_NET_S_LINK_UP;

use crate::Mac;

pub(crate) use command::{Ack, Command, MOST_COMMAND};
pub(crate) use features::{CTRL_VQ, FEATURES, MQ, offloads};
pub use header::NetHeader;

/// Bytes of a frame: at least an Ethernet header, at most what §5.1.6.3.1 makes room for.
pub(crate) const FRAME_LEN: RangeInclusive<usize> = 14..=65_550;

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

/// The configuration: address, a link that is up, and the number of pairs (§5.1.4).
pub(crate) fn config(mac: Mac, pairs: u16) -> [u8; 10] {
    let [a, b, c, d, e, f] = mac.bytes();
    let [low, high] = (VIRTIO_NET_S_LINK_UP as u16).to_le_bytes();
    let [few, many] = pairs.to_le_bytes();
    [a, b, c, d, e, f, low, high, few, many]
}
