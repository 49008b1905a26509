//! The packed ring against drivers that do what no driver may do.

use crate::bench::*;
use crate::hand::*;
use cubie_virtq::{Drained, Features, QueueError, Serve};
use proptest::prelude::*;
use vm_memory::GuestAddress;

const PLAIN: Features = Features::VERSION_1;

/// Offers one wrong chain, and expects `error`, said once.
fn broken(features: Features, offer: impl FnOnce(&mut Hand), error: QueueError) {
    let mut hand = Hand::new(4, features);
    offer(&mut hand);
    for _ in 0..2 {
        let end = hand.bench.queue.drain(|_| panic!("{error} was served"));
        assert_eq!(end, Drained::Broken, "{error}");
    }
    assert_eq!(hand.bench.queue.error(), Some(error));
    assert_eq!(hand.bench.fault.read().unwrap(), 1, "{error} is told once");
    assert!(hand.bench.queue.pop().is_none() && !hand.bench.queue.look_again());
}

#[test]
fn each_thing_that_no_driver_may_do_latches_its_error() {
    let no_such = QueueError::BufferId { id: 4, size: 4 };
    broken(
        PLAIN,
        |h| {
            h.offer(4, &[(DATA, 1, 0)]);
        },
        no_such,
    );
    // All descriptors say that another one follows.
    let a_loop = |h: &mut Hand| {
        h.offer(0, &[(DATA, 1, NEXT); 4]);
    };
    broken(PLAIN, a_loop, QueueError::ChainLength(4));
    for (address, len) in [(END - 1, 2), (END, 1), (u64::MAX, 2), (0x4000_0000, 1)] {
        let outside = QueueError::Buffer { address, len };
        broken(
            PLAIN,
            |h| {
                h.offer(0, &[(address, len, 0)]);
            },
            outside,
        );
    }
    let backwards = |h: &mut Hand| {
        h.offer(0, &[(DATA, 1, WRITE), (DATA, 1, 0)]);
    };
    broken(PLAIN, backwards, QueueError::Order);
}

#[test]
fn each_wrong_indirect_descriptor_latches_its_error() {
    let wrong = |features, chain: &[_], what| {
        broken(
            features,
            |h| {
                h.offer(0, chain);
            },
            QueueError::Indirect(what),
        );
    };
    wrong(PLAIN, &[(TABLE, 16, INDIRECT)], "the feature was not negotiated");
    let with_next = [(TABLE, 16, INDIRECT), (DATA, 1, 0)];
    wrong(Features::RING, &with_next, "NEXT is set as well");
    let behind = [(DATA, 1, 0), (TABLE, 16, INDIRECT)];
    wrong(Features::RING, &behind, "a table behind other buffers");
    for len in [0, 24] {
        let odd = [(TABLE, len, INDIRECT)];
        wrong(Features::RING, &odd, "the table's length is not a multiple of 16");
    }
    let long = [(TABLE, 16 << 16, INDIRECT)];
    wrong(Features::RING, &long, "the table has more than 65535 entries");
    let unmapped = |h: &mut Hand| {
        h.offer(0, &[(END, 16, INDIRECT)]);
    };
    broken(Features::RING, unmapped, QueueError::Buffer { address: END, len: 16 });
    let long = |h: &mut Hand| {
        (0..5).for_each(|i| h.raw(TABLE, i, (DATA, 1, 0, 0)));
        h.offer(0, &[(TABLE, 80, INDIRECT)]);
    };
    broken(Features::RING, long, QueueError::ChainLength(4));
}

#[test]
#[cfg_attr(miri, ignore = "Miri would fill the sparse region of 2 GiB with bytes")]
fn lengths_that_add_up_to_more_than_32_bits_latch() {
    let regions = [(GuestAddress(0), 0x1_0000), (GuestAddress(1 << 32), 1 << 31)];
    let memory = vm_memory::GuestMemoryMmap::from_ranges(&regions).unwrap();
    let mut hand = Hand::going_on(4, memory.into(), At(0, true));
    hand.offer(0, &[(1 << 32, 1 << 31, 0), (1 << 32, 1 << 31, 0)]);
    assert!(hand.bench.queue.pop().is_none());
    assert_eq!(hand.bench.queue.error(), Some(QueueError::TotalLength));
}

#[test]
fn descriptors_used_twice_at_once_cannot_fill_the_hosts_memory() {
    let mut hand = Hand::new(4, PLAIN);
    let mut kept = vec![];
    for _ in 0..6 {
        hand.offer(0, &[(DATA, 1, 0), (DATA, 1, 0), (DATA, 1, 0)]);
        hand.bench.queue.drain(|chain| {
            kept.push(chain);
            Serve::Later
        });
    }
    assert_eq!(kept.len(), 1);
    assert_eq!(hand.bench.queue.error(), Some(QueueError::InFlight(4)));
}

#[test]
fn a_descriptor_that_changes_under_the_read_was_read_once() {
    // The device pops while the descriptor still has its first length; the driver then rewrites it.
    let mut hand = Hand::new(4, PLAIN);
    hand.offer(0, &[(DATA, 5, WRITE)]);
    let mut chain = hand.bench.queue.pop().unwrap();
    hand.raw(DESC, 0, (END - 1, 0x1000, 3, 1 << 7));
    assert_eq!((chain.head(), chain.writable().len()), (0, 5));
    assert_eq!(chain.writable().write(&[1; 0x1000]), 5);
    hand.bench.queue.push(chain, 5);
    hand.bench.queue.signal();
    assert_eq!(hand.used(1), Some((0, Some(5))));
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn arbitrary_ring_bytes_end_in_chains_or_in_an_error(
        size in 1u16..10,
        start in 0u16..10,
        wrap: bool,
        features in 0u64..4,
        descriptors in prop::collection::vec(
            (0..END + 0x1000, 0u32..0x3000, 0u16..10, 0u16..8, 0u16..4), 10),
        table in prop::collection::vec((0..END + 0x1000, any::<u32>(), 0u16..10, any::<u16>()), 8),
        wish: (u16, u16),
    ) {
        let features = PACKED.with(Features(features << 28));
        let place = (start % size) | u16::from(wrap) << 15;
        let state = cubie_virtq::QueueState { next_avail: place, next_used: place };
        let mut bench = Bench::with(memory(), params(size), features, state).unwrap();
        for (i, (mut address, mut len, id, flags, bits)) in (0..).zip(descriptors) {
            if flags & INDIRECT != 0 {
                (address, len) = (TABLE, len & 0xf0);
            }
            let bits = bits << 7 & 1 << 7 | bits << 14 & 1 << 15;
            bench.descriptor(DESC, i, (address, len, id, flags | bits));
        }
        for (i, desc) in (0..).zip(table) {
            bench.descriptor(TABLE, i, desc);
        }
        bench.set16(AVAIL, wish.0);
        bench.set16(AVAIL + 2, wish.1);
        let mut served = 0u16;
        let end = bench.queue.drain(|mut chain| {
            served += 1;
            assert!(chain.head() < size);
            let total = chain.readable().len() + chain.writable().len();
            assert!(total <= u32::MAX as usize);
            Serve::Done(chain, u32::from(served % 2))
        });
        prop_assert!(served <= size);
        prop_assert_eq!(end == Drained::Broken, bench.queue.error().is_some());
        // What was served before the error is shown to the driver all the same.
        let at = At(place & 0x7fff, wrap);
        prop_assert!(served == 0 || is_used(&bench.memory, at));
    }
}
