//! Pages that the kernel shares with us through a vCPU's file.
#![expect(unsafe_code, reason = "memory that the kernel changes is mapped")]

use std::ffi::c_void;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::{io, ptr};

use kvm_ioctls::VcpuFd;
use vm_memory::volatile_memory::Result as Checked;
use vm_memory::{VolatileMemory, VolatileSlice};

use crate::page::page_size;

/// One such page, mapped once more than `kvm-ioctls` does: it may outlive the vCPU.
#[derive(Debug)]
pub(crate) struct VcpuPage {
    start: NonNull<c_void>,
    size: usize,
}

// SAFETY: the mapping has one owner, who lends it for atomic and volatile accesses only.
unsafe impl Send for VcpuPage {}
// SAFETY: as above.
unsafe impl Sync for VcpuPage {}

impl VcpuPage {
    /// The `index`-th page of the file: 0 is where `kvm_run` begins (KVM API 5).
    pub(crate) fn map(vcpu: &VcpuFd, index: u32) -> io::Result<Self> {
        let (size, access) = (page_size(), libc::PROT_READ | libc::PROT_WRITE);
        let (fd, offset) = (vcpu.as_raw_fd(), i64::from(index) * size as i64);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), size, access, libc::MAP_SHARED, fd, offset) };
        match NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => Ok(Self { start, size }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl VolatileMemory for VcpuPage {
    type B = ();

    fn len(&self) -> usize {
        self.size
    }

    fn get_slice(&self, offset: usize, count: usize) -> Checked<VolatileSlice<'_>> {
        self.compute_end_offset(offset, count)?;
        // SAFETY: the bytes lie in the page, which is mapped as long as `self`, and nobody has another
        // way into this mapping.
        Ok(unsafe { VolatileSlice::new(self.start.byte_add(offset).cast().as_ptr(), count) })
    }
}

impl Drop for VcpuPage {
    fn drop(&mut self) {
        // SAFETY: `map` made this mapping, and no slice of it can be left.
        unsafe { libc::munmap(self.start.as_ptr(), self.size) };
    }
}
