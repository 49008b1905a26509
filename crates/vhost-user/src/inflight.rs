//! Memory that outlives this process: the front-end keeps it, and hands it to the next one.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cubie_virtio_core::Inflight;
use rustix::fs::{MemfdFlags, memfd_create};
use vhost::vhost_user::message::VhostUserInflight;
use vm_memory::GuestMemoryMmap;

use crate::Dropped;
use crate::memory::Memory;
use crate::request::{Place, Region};

/// What was in flight, of all queues.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    memory: Arc<GuestMemoryMmap>,
    /// Entries of each queue's part.
    size: u16,
    queues: u16,
}

impl Notes {
    /// New memory for as many queues as `wanted` says, with so many entries each, and where in it they are. All zero.
    pub(crate) fn create(
        wanted: &VhostUserInflight,
    ) -> Result<(VhostUserInflight, OwnedFd), Dropped> {
        let VhostUserInflight { num_queues, queue_size, .. } = *wanted;
        let bytes = Inflight::bytes(queue_size) * u64::from(num_queues);
        let file = memfd_create("vhost-user-inflight", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, bytes)?;
        Ok((VhostUserInflight::new(bytes, 0, num_queues, queue_size), file))
    }

    /// Those in `file`, as another process may have left them.
    pub(crate) fn of(given: &VhostUserInflight, file: File) -> Result<Self, Dropped> {
        let VhostUserInflight { mmap_size, mmap_offset, num_queues, queue_size } = *given;
        let place = Place { guest: 0, size: mmap_size, user: 0, offset: mmap_offset };
        let bytes = Inflight::bytes(queue_size) * u64::from(num_queues);
        if mmap_size < bytes || mmap_offset.checked_add(mmap_size).is_none() {
            return Err(place.refused("too little for what was in flight"));
        }
        let memory = Memory::new(vec![Region { place, file }])?;
        Ok(Self { memory: Arc::clone(memory.map()), size: queue_size, queues: num_queues })
    }

    /// Those of a queue that has `size` entries; `None` if there is no room for them.
    pub(crate) fn queue(&self, index: u16, size: u16) -> Option<Inflight> {
        let address = Inflight::bytes(self.size) * u64::from(index);
        let fits = index < self.queues && size <= self.size;
        let notes = fits.then(|| Inflight::new(Arc::clone(&self.memory), address, size))?;
        // It lies in the memory, as was checked at the beginning.
        notes.ok()
    }
}
