//! What `virtio_drivers` asks of its platform.
#![expect(unsafe_code, reason = "virtio_drivers' Hal deals in pointers, and is an unsafe trait")]

use std::ptr::NonNull;

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::Guest;

/// The platform of a [`Guest`]: rings lie in its memory, buffers are copied there and back, so that a
/// device sees guest addresses only.
#[derive(Debug)]
pub enum GuestHal {}

// SAFETY: the requirements are met at each method.
unsafe impl Hal for GuestHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let (guest, len) = (Guest::current(), pages * PAGE_SIZE);
        let address = guest.take_rings(len as u64, PAGE_SIZE as u64);
        let memory = guest.memory();
        memory.write_slice(&vec![0; len], GuestAddress(address)).expect("rings lie in memory");
        // Valid and alone: the pool hands each address out once, the whole piece lies in one region,
        // which is mapped in multiples of pages. The memory stays mapped: the thread holds its guest,
        // and so does the transport of each driver, wherever that goes.
        let host = memory.get_host_address(GuestAddress(address)).ok();
        (address, host.and_then(NonNull::new).expect("rings lie in memory"))
    }

    unsafe fn dma_dealloc(address: PhysAddr, _host: NonNull<u8>, pages: usize) -> i32 {
        Guest::current().give_rings(address..address + (pages * PAGE_SIZE) as u64);
        0
    }

    unsafe fn mmio_phys_to_virt(_address: PhysAddr, _size: usize) -> NonNull<u8> {
        unreachable!("only virtio over PCI maps registers")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        let guest = Guest::current();
        let address = guest.take_buffer(buffer.len());
        // SAFETY: the caller promises a valid buffer that nobody else accesses meanwhile.
        let bytes = unsafe { buffer.as_ref() };
        // Also what the device shall write is copied: what it leaves out comes back unchanged.
        guest.memory().write_slice(bytes, GuestAddress(address)).expect("buffers lie in memory");
        address
    }

    unsafe fn unshare(address: PhysAddr, mut buffer: NonNull<[u8]>, direction: BufferDirection) {
        let guest = Guest::current();
        guest.takes_buffer(address);
        if direction != BufferDirection::DriverToDevice {
            // SAFETY: the caller promises a valid buffer that nobody else accesses meanwhile, and one
            // that is not only readable with the other directions.
            let bytes = unsafe { buffer.as_mut() };
            guest.memory().read_slice(bytes, GuestAddress(address)).expect("buffers lie in memory");
        }
        guest.give_buffer(address, buffer.len());
    }
}
