//! What a queue had to say.

/// How often a queue was signalled, and whom that has reached. A queue counts for itself, in its owner's
/// thread ([`Virtqueue::take_signals`](crate::Virtqueue::take_signals)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Batches that had something for the driver.
    pub batches: u64,
    /// Interrupts. There are fewer than batches where the driver did not want to be told (VIRTIO 1.4 §2.7.7,
    /// §2.8.10), or was told of several at once ([`Virtqueue::hold_interrupts`](crate::Virtqueue::hold_interrupts)).
    pub interrupts: u64,
    /// Kicks of the queue's own, among those that arrive at [`Virtqueue::kick`](crate::Virtqueue::kick).
    pub own_kicks: u64,
}
