//! What a snapshot keeps of a queue.

use cubie_virtq::{QueueParams, QueueState};

/// One queue of a [`TransportState`](crate::TransportState).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SavedQueue {
    /// QueueSizeMax: the largest size that the driver may choose.
    pub max: u16,
    /// What the driver has made of it.
    pub stage: QueueStage,
    /// Where it lies, as far as the driver has said.
    pub params: QueueParams,
    /// What a legacy driver has the used ring at a multiple of: bytes, a power of two.
    pub align: u32,
    /// How far it has got, if the device serves it.
    pub state: QueueState,
    /// The driver has broken it: the device does not look at it until it is reset.
    pub broken: bool,
}

/// What a driver has made of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum QueueStage {
    /// Nothing yet: it can be set up before DRIVER_OK.
    Unused,
    /// Set up. The device serves it from DRIVER_OK on.
    Ready,
    /// Reset by itself since the device was started: it can be set up anew at any time.
    Reset,
}
