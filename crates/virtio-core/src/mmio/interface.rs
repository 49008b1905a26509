//! Which of its interfaces the standard has a driver find.

use crate::status;

/// The register file's layout, and with it how a driver negotiates and where queues lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Interface {
    /// The standard's since version 1 (VIRTIO 1.4 §4.2.2).
    #[default]
    Modern,
    /// The one before (VIRTIO 1.4 §4.2.4), for guests whose drivers know no other: queues in whole pages,
    /// 32 features of which none is of the standard's version 1, no word on whether they suit the device.
    /// All its fields have the guest's own byte order, which here is little endian.
    Legacy,
}

impl Interface {
    /// What the register Version reads as.
    pub(super) const fn version(self) -> u32 {
        match self {
            Self::Modern => 2,
            Self::Legacy => 1,
        }
    }

    /// The steps of an initialisation.
    pub(crate) const fn steps(self) -> &'static [u32] {
        match self {
            Self::Modern => status::MODERN,
            Self::Legacy => status::LEGACY,
        }
    }
}
