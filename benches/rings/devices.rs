//! The devices' ends.

use std::hint::black_box;

use cubie::irq::Interrupt;
use cubie::virtq::{Chain, Features, OnFault, QueueResources, QueueState, Serve, Virtqueue};
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use crate::case::{BUFFER, Case, SIZE};
use crate::floor::Floor;
use crate::memory::{Memory, RING};

/// A device that serves its queue.
pub(crate) trait Device {
    /// Serves what is available.
    fn serve(&mut self);
    /// That the turn's chains have all been served; not measured.
    fn check(&mut self, case: &Case);
}

/// The device of the lane called `name`.
pub(crate) fn for_lane<'m>(name: &str, case: &Case, memory: &'m Memory) -> Box<dyn Device + 'm> {
    match name {
        "floor" => Box::new(Floor::new(case, memory)),
        "split" => Box::new(Ours::new(case, memory, Features::VERSION_1)),
        "packed" => Box::new(Ours::new(case, memory, Features::PACKED)),
        "iter" => Box::new(RustVmm::new(case, memory, RustVmm::iter)),
        "pop" => Box::new(RustVmm::new(case, memory, RustVmm::pop)),
        _ => Box::new(Nobody),
    }
}

/// Where buffers go: what is counted is checked after each turn.
#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) chains: u64,
    bytes: u64,
}

impl Sink {
    /// A piece of a buffer, at this address in our own memory.
    #[inline]
    pub(crate) fn buffer(&mut self, host: usize, len: usize) {
        self.bytes += len as u64;
        black_box(host);
    }

    /// That a turn's chains have arrived since the last check.
    pub(crate) fn check(&mut self, case: &Case) {
        let Self { chains, bytes } = std::mem::take(self);
        assert_eq!(chains, u64::from(case.chains()), "{case}");
        assert_eq!(bytes, u64::from(SIZE) * u64::from(BUFFER), "{case}");
    }
}

/// Leaves the driver alone.
struct Nobody;

impl Device for Nobody {
    fn serve(&mut self) {}

    fn check(&mut self, _: &Case) {}
}

/// `cubie-virtq`.
struct Ours {
    queue: Virtqueue,
    written: u32,
    sink: Sink,
}

impl Ours {
    fn new(case: &Case, memory: &Memory, ring: Features) -> Self {
        let event_idx = if case.event_idx { Features::EVENT_IDX } else { Features::default() };
        let features = ring.with(event_idx);
        let queue = Virtqueue::new(QueueResources {
            index: 0,
            params: RING,
            state: QueueState::fresh(features),
            features,
            kick: EventFd::new(0).expect("an eventfd"),
            interrupt: Interrupt::silent(),
            fault: OnFault::unheard(),
            memory: memory.guest.clone(),
        });
        Self { queue: queue.expect("a ring"), written: case.written(), sink: Sink::default() }
    }
}

impl Device for Ours {
    fn serve(&mut self) {
        let Self { queue, written, sink } = self;
        queue.drain(|mut chain: Chain| {
            for buffer in chain.readable().iovecs() {
                sink.buffer(buffer.iov_base.addr(), buffer.iov_len);
            }
            for buffer in chain.writable().iovecs() {
                sink.buffer(buffer.iov_base.addr(), buffer.iov_len);
            }
            sink.chains += 1;
            Serve::Done(chain, *written)
        });
    }

    fn check(&mut self, case: &Case) {
        self.sink.check(case);
    }
}

/// `virtio-queue`.
struct RustVmm<'m> {
    queue: Queue,
    memory: &'m GuestMemoryMmap,
    take: fn(&mut Self),
    /// Chains that the iterator has shown: the queue is borrowed until its end.
    heads: Vec<u16>,
    written: u32,
    sink: Sink,
}

impl<'m> RustVmm<'m> {
    fn new(case: &Case, memory: &'m Memory, take: fn(&mut Self)) -> Self {
        let mut queue = Queue::new(SIZE).expect("a size");
        queue.set_size(SIZE);
        queue.set_desc_table_address(Some(RING.desc as u32), Some(0));
        queue.set_avail_ring_address(Some(RING.driver as u32), Some(0));
        queue.set_used_ring_address(Some(RING.device as u32), Some(0));
        queue.set_event_idx(case.event_idx);
        queue.set_ready(true);
        let heads = Vec::with_capacity(SIZE.into());
        let (memory, written) = (&*memory.guest, case.written());
        Self { queue, memory, take, heads, written, sink: Sink::default() }
    }

    fn pop(&mut self) {
        while let Some(chain) = self.queue.pop_descriptor_chain(self.memory) {
            let head = chain.head_index();
            consume(&mut self.sink, self.memory, chain);
            self.queue.add_used(self.memory, head, self.written).expect("an honest driver");
        }
    }

    fn iter(&mut self) {
        for chain in self.queue.iter(self.memory).expect("an honest driver") {
            self.heads.push(chain.head_index());
            consume(&mut self.sink, self.memory, chain);
        }
        for head in self.heads.drain(..) {
            self.queue.add_used(self.memory, head, self.written).expect("an honest driver");
        }
    }
}

fn consume(sink: &mut Sink, memory: &GuestMemoryMmap, chain: DescriptorChain<&GuestMemoryMmap>) {
    for desc in chain {
        let slice = memory.get_slice(desc.addr(), desc.len() as usize).expect("an honest driver");
        sink.buffer(slice.ptr_guard().as_ptr().addr(), slice.len());
    }
    sink.chains += 1;
}

impl Device for RustVmm<'_> {
    fn serve(&mut self) {
        loop {
            self.queue.disable_notification(self.memory).expect("an honest driver");
            (self.take)(self);
            black_box(self.queue.needs_notification(self.memory).expect("an honest driver"));
            if !self.queue.enable_notification(self.memory).expect("an honest driver") {
                break;
            }
        }
    }

    fn check(&mut self, case: &Case) {
        self.sink.check(case);
    }
}
