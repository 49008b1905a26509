//! Shared memory regions (VIRTIO 1.4 §2.10).

use vm_memory::GuestAddress;

/// Memory of a device that its driver accesses directly, without a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedMemory {
    /// What the device's specification calls it by; unique in the device.
    pub id: u8,
    /// Where the machine has put it.
    pub base: GuestAddress,
    /// Bytes.
    pub len: u64,
}
