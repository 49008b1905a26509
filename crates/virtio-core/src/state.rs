//! What a snapshot keeps of a device.

mod check;
mod error;
mod queue;

use cubie_virtq::Features;

use crate::{DeviceId, Interface};
pub use error::RestoreError;
pub use queue::{QueueStage, SavedQueue};

/// A device and its registers, as far as they have come: what [`MmioTransport::save`] returns, and
/// [`MmioTransport::restore`] puts into another one.
///
/// A plain value. Which bytes it becomes is the business of whoever writes the snapshot; with the
/// feature `serde` it has that crate's two traits. Not in here is guest memory, which holds the rings, nor
/// what the device was made with: a disk, a tap, a size.
///
/// [`MmioTransport::save`]: crate::MmioTransport::save
/// [`MmioTransport::restore`]: crate::MmioTransport::restore
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TransportState {
    /// [`TransportState::VERSION`] of the program that saved it.
    pub version: u32,
    /// What kind of device it is.
    pub device: DeviceId,
    /// The register file's layout.
    pub interface: Interface,
    /// What the driver could choose from: the device's features, the rings' and the transport's.
    pub offered: Features,
    /// The register Status (VIRTIO 1.4 §2.1).
    pub status: u32,
    /// The register InterruptStatus: what the driver has not acknowledged.
    pub interrupt_status: u32,
    /// The device was started, and serves its queues when it is not paused.
    pub live: bool,
    /// DeviceFeaturesSel.
    pub device_features_select: u32,
    /// DriverFeaturesSel.
    pub driver_features_select: u32,
    /// QueueSel.
    pub queue_select: u32,
    /// SHMSel.
    pub shared_memory_select: u32,
    /// What the driver has chosen so far.
    pub driver_features: Features,
    /// Bytes of a page for a legacy driver, a power of two.
    pub guest_page_size: u32,
    /// The configuration space.
    pub config: Vec<u8>,
    /// ConfigGeneration.
    pub config_generation: u32,
    /// ConfigGeneration just before the device was started.
    pub started_at: u32,
    /// All queues of the device, by index.
    pub queues: Vec<SavedQueue>,
    /// What the device itself saved ([`VirtioDevice::save`](crate::VirtioDevice::save)).
    pub own: Vec<u8>,
}

impl TransportState {
    /// Changes when the fields or their meaning do.
    pub const VERSION: u32 = 1;
}
