//! The guest's blame.

/// What a driver did that no driver may do. Latched by the queue, which then reads as empty until
/// the device is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// Not between 1 and 32768, or, in a split ring, not a power of two (VIRTIO 1.4 §2.7, §2.8).
    #[error(
        "a queue cannot have the size {0}: it is 1 to 32768, and a power of two in a split ring"
    )]
    Size(u16),
    /// A part of the ring is misaligned (VIRTIO 1.4 §2.7, §2.8.10.1).
    #[error("the {part} at {address:#x} is not aligned to {align} bytes")]
    Alignment {
        /// Which part.
        part: &'static str,
        /// Guest-physical address.
        address: u64,
        /// What the standard asks for, in bytes.
        align: usize,
    },
    /// A part of the ring does not lie in one piece of guest memory.
    #[error("the {part} at {address:#x} does not lie in one piece of guest memory")]
    Ring {
        /// Which part.
        part: &'static str,
        /// Guest-physical address.
        address: u64,
    },
    /// More chains are said to be available than the ring has places (VIRTIO 1.4 §2.7.6).
    #[error("the available index jumped to {index} with {next} next and {size} places")]
    AvailableIndex {
        /// What the driver wrote.
        index: u16,
        /// What the device would take next.
        next: u16,
        /// Queue size.
        size: u16,
    },
    /// More is taken than the queue has descriptors: some are used twice at the same time.
    #[error("more is in flight than the queue's {0} descriptors")]
    InFlight(u16),
    /// A descriptor index that the table does not have.
    #[error("descriptor {index} is outside of a table of {size}")]
    DescriptorIndex {
        /// The index.
        index: u16,
        /// Descriptors in the table.
        size: u16,
    },
    /// A buffer id that the queue has no place for (packed ring only).
    #[error("buffer id {id} in a queue of {size}")]
    BufferId {
        /// The id.
        id: u16,
        /// Queue size.
        size: u16,
    },
    /// A chain longer than the queue's size: a loop (VIRTIO 1.4 §2.7.5.1, §2.8.17).
    #[error("a chain is longer than the queue's size of {0}")]
    ChainLength(u16),
    /// Buffers of one chain add up to more than 2³² − 1 bytes (VIRTIO 1.4 §2.7.5).
    #[error("the buffers of a chain add up to more than 2³² − 1 bytes")]
    TotalLength,
    /// A buffer that the device may read behind one that it may write (VIRTIO 1.4 §2.7.4.2, §2.8.17).
    #[error("a readable buffer follows a writable one")]
    Order,
    /// A buffer that lies outside of guest memory, in whole or in part.
    #[error("a buffer of {len} bytes at {address:#x} is not in guest memory")]
    Buffer {
        /// Guest-physical address.
        address: u64,
        /// Bytes.
        len: u32,
    },
    /// An indirect table inside an indirect table, together with NEXT, of an odd length, empty, or
    /// without the feature negotiated (VIRTIO 1.4 §2.7.5.3.1, §2.8.19).
    #[error("a bad indirect descriptor: {0}")]
    Indirect(&'static str),
    /// Something that whoever serves the queue elsewhere, such as the kernel (vhost), does not tell further.
    #[error("who serves the queue elsewhere cannot go on with it")]
    Elsewhere,
}
