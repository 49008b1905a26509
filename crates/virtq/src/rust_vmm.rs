//! The state of a queue in the form of rust-vmm's crate `virtio-queue`.

use virtio_queue::QueueState as RustVmm;

use crate::{Features, QueueParams, QueueState};

/// All that is left of a queue when it stops: what `virtio_queue::QueueState` holds.
///
/// ```
/// use cubie_virtq::{Features, QueueParams, QueueState, StoppedQueue};
///
/// let ours = StoppedQueue {
///     params: QueueParams { size: 256, desc: 0x1000, driver: 0x2000, device: 0x3000 },
///     state: QueueState { next_avail: 7, next_used: 5 },
///     features: Features::EVENT_IDX,
/// };
/// let theirs = virtio_queue::QueueState::try_from(ours)?;
/// assert!(theirs.event_idx_enabled && theirs.ready);
/// assert_eq!(StoppedQueue::from(theirs), ours);
/// # Ok::<(), cubie_virtq::NotRepresentable>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoppedQueue {
    /// Where it lies.
    pub params: QueueParams,
    /// How far it has got.
    pub state: QueueState,
    /// What was negotiated; of all features, rust-vmm's form knows EVENT_IDX alone.
    pub features: Features,
}

/// Why a queue has no form in rust-vmm's crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRepresentable {
    /// It knows split rings only.
    #[error("virtio-queue has no packed rings")]
    Packed,
    /// It knows queues that use chains as they complete only.
    #[error("virtio-queue does not use chains in order")]
    InOrder,
}

impl TryFrom<StoppedQueue> for RustVmm {
    type Error = NotRepresentable;

    /// The largest size is not known here and becomes the size.
    fn try_from(queue: StoppedQueue) -> Result<Self, NotRepresentable> {
        let StoppedQueue { params, state, features } = queue;
        if features.has(Features::PACKED) {
            return Err(NotRepresentable::Packed);
        }
        if features.has(Features::IN_ORDER) {
            return Err(NotRepresentable::InOrder);
        }
        Ok(Self {
            max_size: params.size,
            next_avail: state.next_avail,
            next_used: state.next_used,
            event_idx_enabled: features.has(Features::EVENT_IDX),
            size: params.size,
            ready: true,
            desc_table: params.desc,
            avail_ring: params.driver,
            used_ring: params.device,
        })
    }
}

impl From<RustVmm> for StoppedQueue {
    /// Nothing is checked: [`Virtqueue::new`](crate::Virtqueue::new) will.
    fn from(queue: RustVmm) -> Self {
        let RustVmm { next_avail, next_used, event_idx_enabled, size, .. } = queue;
        let (desc, driver, device) = (queue.desc_table, queue.avail_ring, queue.used_ring);
        let features = if event_idx_enabled { Features::EVENT_IDX } else { Features::default() };
        Self {
            params: QueueParams { size, desc, driver, device },
            state: QueueState { next_avail, next_used },
            features,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rust_vmm_does_not_know_is_refused() {
        let queue = |features| StoppedQueue {
            params: QueueParams::default(),
            state: QueueState::fresh(features),
            features,
        };
        for (features, error) in [
            (Features::PACKED, NotRepresentable::Packed),
            (Features::IN_ORDER, NotRepresentable::InOrder),
        ] {
            assert_eq!(RustVmm::try_from(queue(features)), Err(error));
        }
    }
}
