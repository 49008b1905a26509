//! The split ring, against rust-vmm's `virtio-queue`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::bench::Bench;
use crate::history::*;
use cubie_virtq::driver::Buffer;
use cubie_virtq::{Features, QueueParams};
use proptest::prelude::*;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// rust-vmm's queue, and what it lacks: NO_INTERRUPT without event index, and batches with IN_ORDER.
struct RustVmm {
    queue: Queue,
    memory: Arc<GuestMemoryMmap>,
    params: QueueParams,
    taken: Vec<(u16, Vec<Buffer>)>,
}

impl RustVmm {
    fn new(memory: &Arc<GuestMemoryMmap>, size: u16, features: Features) -> Self {
        let params = params(size, features);
        let mut queue = Queue::new(size).unwrap();
        queue.set_size(size);
        queue.set_desc_table_address(Some(params.desc as u32), Some(0));
        queue.set_avail_ring_address(Some(params.driver as u32), Some(0));
        queue.set_used_ring_address(Some(params.device as u32), Some(0));
        queue.set_event_idx(features.has(EVENT_IDX));
        queue.set_ready(true);
        assert!(queue.is_valid(&**memory));
        Self { queue, memory: memory.clone(), params, taken: vec![] }
    }

    fn write_used(&self, index: u16, entry: [u32; 2]) {
        let at = self.params.device + 4 + 8 * u64::from(index % self.params.size);
        self.memory.write_obj(entry.map(u32::to_le), GuestAddress(at)).unwrap();
    }
}

impl Device for RustVmm {
    fn take(&mut self) -> Option<Taken> {
        let chain = self.queue.pop_descriptor_chain(&*self.memory)?;
        let head = chain.head_index();
        let buffer = |d: virtio_queue::desc::split::Descriptor| Buffer {
            address: d.addr().0,
            len: d.len(),
            writable: d.is_write_only(),
        };
        let buffers: Vec<_> = chain.map(buffer).collect();
        let taken = taken(&self.memory, &buffers);
        self.taken.push((head, buffers));
        Some(taken)
    }

    fn complete(&mut self, chains: Vec<(usize, Vec<u8>)>) {
        let first = self.queue.next_used();
        let mut last = [0; 2];
        for (_, data) in &chains {
            let (head, buffers) = self.taken.remove(chains[0].0);
            scatter(&self.memory, &buffers, data);
            self.queue.add_used(&*self.memory, head, data.len() as u32).unwrap();
            last = [head.into(), data.len() as u32];
        }
        // A batch is one entry, in the first place (VIRTIO 1.4 §2.7.9); the others are not written.
        for index in 1..chains.len() as u16 {
            self.write_used(first.wrapping_add(index), [u32::MAX; 2]);
        }
        self.write_used(first, last);
    }

    fn wants_interrupt(&mut self) -> bool {
        let flags: u16 =
            self.memory.load(GuestAddress(self.params.driver), Ordering::Relaxed).unwrap();
        self.queue.needs_notification(&*self.memory).unwrap() && u16::from_le(flags) & 1 == 0
    }

    fn arm(&mut self) -> bool {
        self.queue.enable_notification(&*self.memory).unwrap()
    }
}

fn features() -> impl Strategy<Value = Features> {
    prop::sample::subsequence(vec![EVENT_IDX, INDIRECT, IN_ORDER], 0..=3)
        .prop_map(|all| all.into_iter().fold(Features::VERSION_1, Features::with))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn rust_vmms_device_and_our_driver_understand_each_other(
        size in prop::sample::select(vec![1u16, 2, 4, 16, 128]),
        features in features(),
        steps in steps(),
    ) {
        let memory = memory();
        let driver = driver(&memory, size, features);
        let device = RustVmm::new(&memory, size, features);
        Bench::new(memory, driver, device, features).run(steps);
    }
}

/// 70,000 chains, three at a time: all indices wrap.
#[test]
fn indices_wrap_and_nothing_is_lost() {
    let memory = memory();
    let mut driver = driver(&memory, 4, EVENT_IDX);
    let mut device = RustVmm::new(&memory, 4, EVENT_IDX);
    let rounds = if cfg!(miri) { 20 } else { 23_400 };
    for round in 0..rounds {
        assert!(!device.arm(), "round {round}");
        let tokens = [(); 3].map(|()| driver.add(&[Buffer::writable(DATA, 8)]).unwrap());
        driver.publish();
        assert!(driver.wants_kick(), "round {round}");
        assert!(!driver.enable_interrupts());
        for _ in tokens {
            assert_eq!(device.take(), Some(Taken { read: vec![], room: 8 }));
        }
        for (n, _) in tokens.iter().enumerate() {
            device.complete(vec![(0, vec![0; 8])]);
            assert_eq!(device.wants_interrupt(), n == 0, "round {round}");
        }
        let used = [(); 3].map(|()| driver.pop_used().unwrap().token);
        assert_eq!((used, driver.pop_used()), (tokens, None));
    }
}
