//! How far a queue has got.

use crate::Features;

/// How far a queue has got. A queue started with the state that it was stopped with goes on as if
/// nothing had happened.
///
/// In a split ring both are free-running indices. In a packed ring bits 0–14 are the position and bit
/// 15 the wrap counter, as in vhost. The default is where a split ring begins; [`QueueState::fresh`]
/// knows both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct QueueState {
    /// The available entry to be taken next.
    pub next_avail: u16,
    /// The used entry to be written next.
    pub next_used: u16,
}

impl QueueState {
    /// Where a queue begins after a reset: at 0, in a packed ring with the wrap counters at 1
    /// (VIRTIO 1.4 §2.8.1).
    ///
    /// ```
    /// use cubie_virtq::{Features, QueueState};
    ///
    /// assert_eq!(QueueState::fresh(Features::RING), QueueState::default());
    /// assert_eq!(QueueState::fresh(Features::PACKED).next_avail, 0x8000);
    /// ```
    pub const fn fresh(features: Features) -> Self {
        let start = if features.has(Features::PACKED) { 1 << 15 } else { 0 };
        Self { next_avail: start, next_used: start }
    }

    /// The form of `VHOST_GET_VRING_BASE` and of vhost-user's message of that name: in a packed ring
    /// the available position below and the used one above, in a split ring the available index alone.
    ///
    /// ```
    /// use cubie_virtq::{Features, QueueState};
    ///
    /// let state = QueueState { next_avail: 0x8005, next_used: 0x8003 };
    /// assert_eq!(state.vring_base(Features::PACKED), 0x8003_8005);
    /// ```
    pub const fn vring_base(self, features: Features) -> u32 {
        let used = if features.has(Features::PACKED) { (self.next_used as u32) << 16 } else { 0 };
        used | self.next_avail as u32
    }

    /// The state that [`QueueState::vring_base`] describes.
    ///
    /// The used index of a split ring does not travel: it stands in the ring. Here it is taken to be the
    /// available one, which it is when nothing was in flight; when something may have been, ask
    /// [`QueueParams::used_index`](crate::QueueParams::used_index).
    ///
    /// ```
    /// use cubie_virtq::{Features, QueueState};
    ///
    /// let packed = QueueState { next_avail: 0x8005, next_used: 0x0003 };
    /// let base = packed.vring_base(Features::PACKED);
    /// assert_eq!(QueueState::from_vring_base(Features::PACKED, base), packed);
    /// let split = QueueState { next_avail: 5, next_used: 5 };
    /// assert_eq!(QueueState::from_vring_base(Features::RING, 5), split);
    /// ```
    pub const fn from_vring_base(features: Features, base: u32) -> Self {
        let next_avail = base as u16;
        let packed = features.has(Features::PACKED);
        Self { next_avail, next_used: if packed { (base >> 16) as u16 } else { next_avail } }
    }
}
