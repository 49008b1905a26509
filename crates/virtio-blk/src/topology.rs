//! How a disk likes to be used.

/// How a disk likes to be used (VIRTIO 1.4 §5.2.4): advice to the guest's file systems, which need not follow it.
/// Positions and lengths are sectors of 512 bytes whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Bytes of a block that the host writes without reading the rest of it before; a power of two.
    pub physical: u32,
    /// Bytes of a request that is served best; 0 when there is no such size.
    pub best: u32,
}

impl Default for Topology {
    /// Sectors, of which one is as good as many.
    fn default() -> Self {
        Self { physical: 512, best: 0 }
    }
}
