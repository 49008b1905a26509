//! Our split ring against rust-vmm's `virtio-queue`: the same driver's operations on two copies of
//! memory, compared after every step; and arbitrary bytes, which must not hurt.

use crate::bench::*;
use cubie_virtq::{Drained, Features, QueueState, Serve};
use proptest::prelude::*;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const SIZE: u16 = 8;

/// A chain as the driver builds it: readable and writable buffer lengths, in a table of its own or not.
#[derive(Clone, Debug)]
struct Request {
    readable: Vec<u32>,
    writable: Vec<u32>,
    indirect: bool,
    written: u32,
}

fn request() -> impl Strategy<Value = Request> {
    let lengths = || prop::collection::vec(1u32..500, 0..4);
    (lengths(), lengths(), any::<bool>(), 0u32..1000)
        .prop_filter("a chain has a buffer", |(r, w, ..)| !r.is_empty() || !w.is_empty())
        .prop_map(|(readable, writable, indirect, written)| Request {
            readable,
            writable,
            indirect,
            written,
        })
}

/// Writes the request's descriptors and offers it.
fn offer(bench: &mut Bench, request: &Request) {
    let table = if request.indirect { TABLE } else { DESC };
    let flags = request.readable.iter().map(|len| (*len, 0));
    let flags: Vec<_> = flags.chain(request.writable.iter().map(|len| (*len, WRITE))).collect();
    for (i, (len, flag)) in (0..).zip(&flags) {
        let more = if usize::from(i) + 1 < flags.len() { NEXT } else { 0 };
        bench.descriptor(table, i, (DATA + 0x200 * u64::from(i), *len, flag | more, i + 1));
    }
    if request.indirect {
        bench.descriptor(DESC, 7, (TABLE, 16 * flags.len() as u32, INDIRECT, 0));
    }
    bench.offer(if request.indirect { 7 } else { 0 });
}

fn theirs(event_idx: bool) -> Queue {
    let mut queue = Queue::new(SIZE).unwrap();
    queue.set_size(SIZE);
    queue.set_desc_table_address(Some(DESC as u32), Some(0));
    queue.set_avail_ring_address(Some(AVAIL as u32), Some(0));
    queue.set_used_ring_address(Some(USED as u32), Some(0));
    queue.set_event_idx(event_idx);
    queue.set_ready(true);
    queue
}

fn ring_bytes(memory: &GuestMemoryMmap, at: u64) -> Vec<u8> {
    let mut bytes = vec![0; 0x100];
    memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
    bytes
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn both_take_the_same_chains_and_leave_the_same_rings(
        requests in prop::collection::vec((request(), any::<u16>()), 1..40),
        event_idx: bool,
    ) {
        let features = if event_idx { Features::RING } else { Features::bit(28) };
        let (mut ours, mut mirror) = (Bench::new(SIZE, features), Bench::new(SIZE, features));
        let mut theirs = theirs(event_idx);
        for (request, used_event) in &requests {
            for bench in [&mut ours, &mut mirror] {
                bench.set16(AVAIL + 4 + 2 * u64::from(SIZE), *used_event);
                offer(bench, request);
            }
            let mut lengths = vec![];
            let end = ours.queue.drain(|mut chain| {
                lengths.push((chain.readable().len(), chain.writable().len()));
                Serve::Done(chain, request.written)
            });
            prop_assert_eq!(end, Drained::Empty);

            let memory = &*mirror.memory;
            let chain = theirs.pop_descriptor_chain(memory).unwrap();
            let head = chain.head_index();
            let (writable, readable): (Vec<_>, Vec<_>) = chain.partition(|d| d.is_write_only());
            let sum = |d: &[virtio_queue::desc::split::Descriptor]| {
                d.iter().map(|d| d.len() as usize).sum::<usize>()
            };
            prop_assert_eq!(lengths, vec![(sum(&readable), sum(&writable))]);
            theirs.add_used(memory, head, request.written).unwrap();
            let interrupt = theirs.needs_notification(memory).unwrap();
            theirs.enable_notification(memory).unwrap();
            prop_assert_eq!(ours.interrupts() == 1, interrupt);
            prop_assert_eq!(ring_bytes(&ours.memory, USED), ring_bytes(memory, USED));
            let state = QueueState { next_avail: theirs.next_avail(), next_used: theirs.next_used() };
            prop_assert_eq!(ours.queue.state(), state);
        }
    }

    #[test]
    fn arbitrary_ring_bytes_end_in_chains_or_in_an_error(
        descriptors in prop::collection::vec((0..END + 0x1000, 0u32..0x3000, 0u16..8, 0u16..10), 8),
        table in prop::collection::vec((0..END + 0x1000, any::<u32>(), 0u16..8, 0u16..10), 8),
        heads in prop::collection::vec(0u16..9, 8),
        index: u16,
    ) {
        let mut bench = Bench::new(SIZE, Features::RING);
        for (i, mut desc) in (0..).zip(descriptors) {
            if desc.2 & INDIRECT != 0 {
                desc = (TABLE, 128, desc.2, desc.3);
            }
            bench.descriptor(DESC, i, desc);
        }
        for (i, desc) in (0..).zip(table) {
            bench.descriptor(TABLE, i, desc);
        }
        for head in heads {
            bench.offer(head);
        }
        bench.set16(AVAIL + 2, index % 12);
        let mut served = 0u16;
        let end = bench.queue.drain(|mut chain| {
            served += 1;
            let total = chain.readable().len() + chain.writable().len();
            assert!(total <= u32::MAX as usize);
            Serve::Done(chain, 0)
        });
        prop_assert!(served <= SIZE);
        prop_assert_eq!(end == Drained::Broken, bench.queue.error().is_some());
        // What was served before the error is shown to the driver all the same.
        prop_assert_eq!(bench.get16(USED + 2), served);
    }
}
