//! What the kernel is told.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use cubie_virtio_core::{Features, QueueResources, QueueState, StartError};
use vhost::net::VhostNet;
use vhost::vhost_kern::net::Net as KernelNet;
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{
    GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};
use vmm_sys_util::eventfd::EventFd;

use super::{VhostError, io_error};
use crate::protocol::MRG_RXBUF;
use crate::{NetBackend, NetHeader};

/// What of the kernel's features means the same here. Others do not: feature 27, for one, is a legacy driver's
/// ANY_LAYOUT, and tells vhost-net that the tap speaks no header.
const KNOWN: Features =
    Features::INDIRECT.with(Features::EVENT_IDX).with(Features::VERSION_1).with(MRG_RXBUF);

/// The kernel's side of one pair of queues: a thread of the kernel that works on this process's behalf.
pub(crate) struct Vhost {
    kernel: KernelNet<GuestMemoryAtomic<GuestMemoryMmap>>,
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
    features: Features,
}

impl Vhost {
    /// Opens `/dev/vhost-net`, which takes the right to read and write it, and no other.
    fn open() -> Result<Self, VhostError> {
        // The guest's memory is known at the start.
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let kernel =
            KernelNet::new(memory.clone()).map_err(|error| VhostError::refused(io_error(error)))?;
        let failed = |what| move |error| VhostError::Host { what, source: io_error(error) };
        kernel.set_owner().map_err(failed("have a thread of vhost-net"))?;
        let features = kernel.get_features().map_err(failed("ask vhost-net for its features"))?;
        Ok(Self { kernel, memory, features: Features(features).and(KNOWN) })
    }

    /// As [`Vhost::open`], if `end` is a tap.
    pub(crate) fn of_tap(end: &mut impl NetBackend) -> Result<Self, VhostError> {
        end.lend(NetHeader::LEN).map_err(|_| VhostError::NoTap)?;
        Self::open()
    }

    /// What it knows of: features of rings, and merged buffers of the card's.
    pub(crate) fn features(&self) -> Features {
        self.features
    }

    /// A driver has negotiated `features`, and its queues and buffers lie in `memory`. Nothing is served yet.
    pub(crate) fn begin(&self, features: Features, memory: &GuestMemoryMmap) -> io::Result<()> {
        // The tap speaks the header, the kernel passes it on.
        self.kernel.set_features(features.and(self.features).0).map_err(io_error)?;
        let region = |region: &GuestRegionMmap| -> io::Result<_> {
            let start = region.start_addr();
            Ok(VhostUserMemoryRegionInfo {
                guest_phys_addr: start.0,
                memory_size: region.len(),
                userspace_addr: memory.get_host_address(start).map_err(io::Error::other)? as u64,
                ..Default::default()
            })
        };
        let regions: Vec<_> = memory.iter().map(region).collect::<io::Result<_>>()?;
        self.kernel.set_mem_table(&regions).map_err(io_error)?;
        self.hold(memory.clone());
        Ok(())
    }

    /// No queue is connected any more: the guest's memory may go.
    pub(crate) fn end(&self) {
        self.hold(GuestMemoryMmap::new());
    }

    /// Keeps `memory` mapped, instead of what was before.
    fn hold(&self, memory: GuestMemoryMmap) {
        self.memory.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).replace(memory);
    }

    /// Tells the kernel of its `nth` queue: it will write `call` when it has used buffers, and `broken` when
    /// the driver has broken the queue.
    pub(crate) fn show(
        &self,
        nth: usize,
        queue: &QueueResources,
        call: &EventFd,
        broken: &EventFd,
    ) -> Result<(), StartError> {
        let QueueResources { index, params, state, kick, .. } = queue;
        // The kernel gets host addresses of the parts, and goes on from there: they must be in one piece.
        let used = params.used_index(&queue.memory);
        used.map_err(|source| StartError::Queue { index: *index, source })?;
        let config = VringConfigData {
            queue_max_size: params.size,
            queue_size: params.size,
            flags: 0,
            desc_table_addr: params.desc,
            used_ring_addr: params.device,
            avail_ring_addr: params.driver,
            log_addr: None,
        };
        let told = || {
            self.kernel.set_vring_num(nth, params.size)?;
            self.kernel.set_vring_base(nth, state.next_avail)?;
            self.kernel.set_vring_addr(nth, &config)?;
            self.kernel.set_vring_call(nth, call)?;
            self.kernel.set_vring_err(nth, broken)?;
            self.kernel.set_vring_kick(nth, kick)
        };
        Ok(told().map_err(io_error)?)
    }

    /// The kernel serves its `nth` queue through this tap from now on, or, without one, no more: nothing is
    /// in flight then.
    pub(crate) fn connect(&self, nth: usize, tap: Option<&File>) -> io::Result<()> {
        self.kernel.set_backend(nth, tap).map_err(io_error)
    }

    /// How far its `nth` queue has got, which it does not serve any more.
    pub(crate) fn state(&self, nth: usize, queue: &QueueResources) -> io::Result<QueueState> {
        let base = self.kernel.get_vring_base(nth).map_err(io_error)?;
        let known = QueueState::from_vring_base(queue.features, base);
        let used = queue.params.used_index(&queue.memory);
        Ok(QueueState { next_used: used.unwrap_or(known.next_used), ..known })
    }
}

impl std::fmt::Debug for Vhost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "vhost-net, file descriptor {}", self.kernel.as_raw_fd())
    }
}
