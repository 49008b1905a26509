//! What a queue is made of: where it lies, how far it has got, and whom to tell.

use std::fmt;
use std::sync::Arc;

use cubie_vm_irq::Interrupt;
use virtio_bindings::virtio_config::{
    VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET,
    VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::{QueueError, QueueState};

/// A set of feature bits (VIRTIO 1.4 §2.2), bit n standing for feature n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Features(pub u64);

impl Features {
    /// A chain may be a table elsewhere (VIRTIO 1.4 §2.7.5.3, §2.8.7).
    pub const INDIRECT: Self = Self::bit(VIRTIO_RING_F_INDIRECT_DESC);
    /// Either side says after which entry it wants to be told (VIRTIO 1.4 §2.7.7, §2.8.10).
    pub const EVENT_IDX: Self = Self::bit(VIRTIO_RING_F_EVENT_IDX);
    /// The rings are packed, not split (VIRTIO 1.4 §2.8).
    pub const PACKED: Self = Self::bit(VIRTIO_F_RING_PACKED);
    /// Chains are used in the order in which they were made available (VIRTIO 1.4 §2.7.9, §2.8.8).
    /// Any device may offer it: the queue holds back what completes too early.
    pub const IN_ORDER: Self = Self::bit(VIRTIO_F_IN_ORDER);
    /// Kicks say how far the driver has got (VIRTIO 1.4 §2.9, §4.2.3.3): the transport's affair, since the
    /// rings say so too.
    pub const NOTIFICATION_DATA: Self = Self::bit(VIRTIO_F_NOTIFICATION_DATA);
    /// The driver may reset one queue (VIRTIO 1.4 §2.6.1): the transport's affair, which stops the device
    /// and starts it with [`Virtqueue::idle`](crate::Virtqueue::idle) in that place.
    pub const RING_RESET: Self = Self::bit(VIRTIO_F_RING_RESET);
    /// What to offer if nothing speaks against it: indirect descriptors, event index, and the reset of
    /// single queues.
    pub const RING: Self = Self::INDIRECT.with(Self::EVENT_IDX).with(Self::RING_RESET);
    /// What a transport does by itself, whoever serves the queues.
    pub const TRANSPORT: Self = Self::NOTIFICATION_DATA.with(Self::RING_RESET);
    /// The device follows the standard and not its legacy.
    pub const VERSION_1: Self = Self(1 << VIRTIO_F_VERSION_1);

    /// The set of one feature, by its number in virtio-bindings.
    ///
    /// # Panics
    /// From feature 64 on, which no device has yet.
    pub const fn bit(number: u32) -> Self {
        Self(1 << number)
    }

    /// The features of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The features that both have.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// True if all of `other` are in this set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if feature `number` is in this set.
    pub const fn has_bit(self, number: u32) -> bool {
        self.has(Self::bit(number))
    }
}

/// Where a queue lies in guest memory, as the driver set it up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct QueueParams {
    /// Number of descriptors: 1 to 32768, in a split ring a power of two.
    pub size: u16,
    /// Guest-physical address of the descriptor area: the descriptor table, or the descriptor ring.
    pub desc: u64,
    /// Guest-physical address of the driver area: the available ring, or the driver event suppression
    /// structure.
    pub driver: u64,
    /// Guest-physical address of the device area: the used ring, or the device event suppression
    /// structure.
    pub device: u64,
}

/// Who is told what a driver broke a queue with: the transport, which sets DEVICE_NEEDS_RESET, and which
/// knows whether the log has heard of this driver before.
#[derive(Clone)]
pub struct OnFault(Arc<dyn Fn(u16, QueueError) + Send + Sync>);

impl OnFault {
    /// Calls `tell` with the queue's index, once a broken queue and from whichever thread serves it.
    pub fn new(tell: impl Fn(u16, QueueError) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Nobody: for queues whose [`error`](crate::Virtqueue::error) is asked for.
    pub fn unheard() -> Self {
        Self::new(|_, _| ())
    }

    /// The driver broke queue `queue`.
    pub fn tell(&self, queue: u16, error: QueueError) {
        (self.0)(queue, error);
    }
}

impl fmt::Debug for OnFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnFault")
    }
}

/// All that a device gets to run one queue.
#[derive(Debug)]
pub struct QueueResources {
    /// Which queue of the device.
    pub index: u16,
    /// Where it lies.
    pub params: QueueParams,
    /// How far it has got.
    pub state: QueueState,
    /// What was negotiated.
    pub features: Features,
    /// The driver's notifications arrive here.
    pub kick: EventFd,
    /// Tells the driver that buffers were used.
    pub interrupt: Interrupt,
    /// Who is told that the driver broke the ring.
    pub fault: OnFault,
    /// The guest's memory.
    pub memory: Arc<GuestMemoryMmap>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feature_sets_are_sets() {
        let both = Features::RING.with(Features::VERSION_1);
        assert!(both.has(Features::RING) && both.has_bit(32));
        assert!(!Features::RING.has(both));
        assert_eq!(both.and(Features::VERSION_1), Features::VERSION_1);
    }
}
