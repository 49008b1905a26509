//! A guest without a VM: memory that is shared, rings of the drivers' end, and rust-vmm's front-end.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use cubie_virtio_core::{Features, QueueState};
use cubie_virtq::QueueParams;
use cubie_virtq::driver::{Buffer, DriverQueue, Used};
use rustix::fs::MemfdFlags;
use vhost::vhost_user::message::{FrontendReq, VhostUserHeaderFlag};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap, MmapRegion,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::wire::{DEADLINE, Wire, state};

/// Where the guest's memory begins, and its bytes.
pub(crate) const RAM: u64 = 0x10_0000;
pub(crate) const RAM_SIZE: u64 = 0x10_0000;
/// Free memory behind the rings.
pub(crate) const FREE: u64 = RAM + 0x8_0000;

const PROTOCOL_FEATURES: u64 = 1 << 30;

/// Memory that another process can map.
pub(crate) fn shared(start: u64, size: u64) -> GuestRegionMmap {
    let file = File::from(rustix::fs::memfd_create("ram", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(size).unwrap();
    let mapping = MmapRegion::from_file(FileOffset::new(file, 0), size as usize).unwrap();
    GuestRegionMmap::new(mapping, GuestAddress(start)).unwrap()
}

/// The same as a front-end shows it.
pub(crate) fn shown(region: &GuestRegionMmap) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo::from_guest_region(region).unwrap()
}

/// A driver's end of one queue.
pub(crate) struct Queue {
    pub(crate) driver: DriverQueue,
    pub(crate) params: QueueParams,
    pub(crate) kick: EventFd,
    pub(crate) call: EventFd,
    pub(crate) error: EventFd,
}

/// A guest with a device behind a socket.
pub(crate) struct Guest {
    pub(crate) front: Frontend,
    pub(crate) wire: Wire,
    pub(crate) memory: Arc<GuestMemoryMmap>,
    pub(crate) queues: Vec<Queue>,
    pub(crate) features: Features,
}

impl Guest {
    /// Negotiates these features, and sets up queues of these sizes. Nothing is on yet.
    pub(crate) fn new(socket: UnixStream, features: Features, sizes: &[u16]) -> Self {
        let memory = GuestMemoryMmap::from_regions(vec![shared(RAM, RAM_SIZE)]).unwrap();
        let (front, wire) = negotiate(socket, features, &memory, sizes.len());
        let mut guest = Self { front, wire, memory: Arc::new(memory), queues: vec![], features };
        let mut base = RAM;
        for size in sizes {
            let (params, bytes) = QueueParams::contiguous(base, *size, features);
            base = (base + bytes).next_multiple_of(4096);
            guest.add_queue(params);
        }
        guest
    }

    /// Another daemon is told of features and memory, and not yet of queues.
    pub(crate) fn move_to(&mut self, socket: UnixStream) {
        let queues = self.queues.len();
        (self.front, self.wire) = negotiate(socket, self.features, &self.memory, queues);
    }

    /// A queue after a reset, which begins anew.
    pub(crate) fn renew(&mut self, index: usize) {
        let queue = &mut self.queues[index];
        let memory = self.memory.clone();
        queue.driver = DriverQueue::new(memory, queue.params, self.features).unwrap();
        self.set_up(index);
    }

    fn add_queue(&mut self, params: QueueParams) {
        let driver = DriverQueue::new(self.memory.clone(), params, self.features).unwrap();
        let [kick, call, error] = [(); 3].map(|()| EventFd::new(0).unwrap());
        self.queues.push(Queue { driver, params, kick, call, error });
        let index = self.queues.len() - 1;
        self.set_base(index, QueueState::fresh(self.features).vring_base(self.features));
        self.set_up(index);
    }

    /// Tells the daemon of a queue, all but its kick and how far it has got.
    pub(crate) fn set_up(&self, index: usize) {
        let (front, queue) = (&self.front, &self.queues[index]);
        let host = |address| self.memory.get_host_address(GuestAddress(address)).unwrap() as u64;
        let config = VringConfigData {
            queue_max_size: queue.params.size,
            queue_size: queue.params.size,
            flags: 0,
            desc_table_addr: host(queue.params.desc),
            used_ring_addr: host(queue.params.device),
            avail_ring_addr: host(queue.params.driver),
            log_addr: None,
        };
        front.set_vring_num(index, queue.params.size).unwrap();
        front.set_vring_addr(index, &config).unwrap();
        front.set_vring_call(index, &queue.call).unwrap();
        front.set_vring_err(index, &queue.error).unwrap();
    }

    /// SET_VRING_BASE, of which rust-vmm's front-end has 16 bits only.
    pub(crate) fn set_base(&self, index: usize, base: u32) {
        assert!(self.wire.request(FrontendReq::SET_VRING_BASE, &state(index as u32, base), &[]));
    }

    /// Starts and enables a queue.
    pub(crate) fn start(&mut self, index: usize) {
        self.front.set_vring_kick(index, &self.queues[index].kick).unwrap();
        self.front.set_vring_enable(index, true).unwrap();
    }

    /// Offers a chain and kicks, if that is wanted.
    pub(crate) fn offer(&mut self, index: usize, buffers: &[Buffer]) {
        let queue = &mut self.queues[index];
        queue.driver.add(buffers).expect("room in the ring");
        queue.driver.publish();
        if queue.driver.wants_kick() {
            queue.kick.write(1).unwrap();
        }
    }

    /// The next chain that comes back.
    pub(crate) fn wait_used(&mut self, index: usize) -> Used {
        let queue = &mut self.queues[index];
        loop {
            if let Some(used) = queue.driver.pop_used() {
                return used;
            }
            assert_eq!(queue.driver.error(), None);
            if !queue.driver.enable_interrupts() {
                wait_for(&queue.call);
            }
        }
    }

    /// Offers a chain and waits until it comes back.
    pub(crate) fn exchange(&mut self, index: usize, buffers: &[Buffer]) -> Used {
        self.offer(index, buffers);
        self.wait_used(index)
    }
}

/// All that comes before queues.
fn negotiate(
    socket: UnixStream,
    features: Features,
    memory: &GuestMemoryMmap,
    queues: usize,
) -> (Frontend, Wire) {
    let wire = Wire(socket.try_clone().unwrap());
    let mut front = Frontend::from_stream(socket, queues as u64);
    front.set_owner().unwrap();
    let offered = Features(front.get_features().unwrap());
    let wanted = features.with(Features::VERSION_1).with(Features(PROTOCOL_FEATURES));
    assert!(offered.has(wanted), "{offered:?} has {wanted:?}");
    front.set_features(wanted.0).unwrap();
    let protocol = front.get_protocol_features().unwrap();
    front.set_protocol_features(protocol).unwrap();
    front.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    let regions: Vec<_> = memory.iter().map(shown).collect();
    front.set_mem_table(&regions).unwrap();
    (front, wire)
}

/// Waits until `event` was written to, and takes that.
pub(crate) fn wait_for(event: &EventFd) {
    assert!(is_written(event, DEADLINE), "nobody writes to the eventfd");
    // The daemon has made it one that does not block.
    event.read().unwrap();
}

/// Whether `event` is written to within so much time.
pub(crate) fn is_written(event: &EventFd, most: Duration) -> bool {
    let (epoll, mut events) = (Epoll::new().unwrap(), [EpollEvent::default()]);
    let readable = EpollEvent::new(EventSet::IN, 0);
    epoll.ctl(ControlOperation::Add, event.as_raw_fd(), readable).unwrap();
    epoll.wait(most.as_millis() as i32, &mut events).unwrap() == 1
}
