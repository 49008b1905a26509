//! The packed ring against a well-behaved driver written by hand.

use crate::bench::*;
use crate::hand::*;
use cubie_virtq::{Drained, Features, QueueError, QueueParams, QueueState, Serve};
use vm_memory::{Bytes, GuestAddress};

const PLAIN: Features = Features::VERSION_1;

#[test]
fn buffers_arrive_in_order_and_lengths_go_back() {
    let mut hand = Hand::new(8, PLAIN);
    hand.bench.memory.write_slice(b"hello", GuestAddress(DATA)).unwrap();
    let chain = [(DATA, 2, 0), (DATA + 2, 3, 0), (DATA + 0x100, 4, WRITE)];
    let entries = hand.offer(5, &chain);
    let end = hand.bench.queue.drain(|mut chain| {
        assert_eq!(chain.head(), 5);
        let (mut readable, mut writable) = chain.split();
        assert_eq!((readable.len(), writable.len()), (5, 4));
        let mut word = [0; 5];
        readable.read(&mut word);
        assert_eq!(&word, b"hello");
        assert_eq!(writable.write(b"world!"), 4, "no more than there is room for");
        Serve::Done(chain, 4)
    });
    assert_eq!(end, Drained::Empty);
    assert_eq!(hand.used(entries), Some((5, Some(4))));
    assert_eq!(hand.bench.queue.state(), QueueState { next_avail: 0x8003, next_used: 0x8003 });
    let mut answer = [0; 5];
    hand.bench.memory.read_slice(&mut answer, GuestAddress(DATA + 0x100)).unwrap();
    assert_eq!(&answer, b"worl\0");
}

#[test]
fn rings_of_any_size_go_round_with_chains_over_the_end() {
    for size in [1, 2, 3, 5, 7, 12] {
        let mut hand = Hand::new(size, PLAIN);
        for round in 0..4 * size {
            let len = (round % size).min(3) + 1;
            let len = len.min(size);
            let chain: Vec<_> = (0..len).map(|n| (DATA, u32::from(n) + 1, 0)).collect();
            let entries = hand.offer(round % size, &chain);
            let mut lengths = vec![];
            hand.bench.queue.drain(|mut chain| {
                lengths.extend(chain.readable().iovecs().iter().map(|piece| piece.iov_len));
                Serve::Done(chain, 0)
            });
            assert_eq!(lengths, (1..=usize::from(len)).collect::<Vec<_>>(), "{round} of {size}");
            assert_eq!(hand.used(entries), Some((round % size, None)), "{round} of {size}");
            assert_eq!(hand.bench.queue.state().next_used, hand.next.word());
        }
    }
}

#[test]
fn the_largest_ring_is_32768_entries() {
    let memory = std::sync::Arc::new(
        vm_memory::GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap(),
    );
    let params = QueueParams { size: 1 << 15, desc: 0x1_0000, driver: AVAIL, device: USED };
    let state = QueueState { next_avail: 0xffff, next_used: 0xffff };
    let mut bench = Bench::with(memory, params, PACKED, state).unwrap();
    bench.descriptor(0x1_0000, 0x7fff, (DATA, 1, 0x7fff, 1 << 7 | NEXT));
    bench.descriptor(0x1_0000, 0, (DATA, 1, 0x7ffe, 1 << 15));
    let mut heads = vec![];
    bench.queue.drain(|chain| {
        heads.push(chain.head());
        Serve::Done(chain, 0)
    });
    assert_eq!(heads, [0x7ffe], "the id of the last");
    assert_eq!(bench.queue.state(), QueueState { next_avail: 1, next_used: 1 });
}

#[test]
fn a_batch_is_one_interrupt_and_becomes_visible_with_its_first_descriptor() {
    let mut hand = Hand::new(8, PLAIN);
    (0..5).for_each(|id| {
        hand.offer(id, &[(DATA, 1, 0)]);
    });
    let (memory, mut seen) = (hand.bench.memory.clone(), vec![]);
    hand.bench.queue.drain(|chain| {
        seen.push(is_used(&memory, At(0, true)));
        Serve::Done(chain, 0)
    });
    assert_eq!(seen, [false; 5], "nothing is shown before the batch ends");
    let used: Vec<_> = (0..5).map(|_| hand.used(1)).collect();
    assert_eq!(used, (0..5).map(|id| Some((id, None))).collect::<Vec<_>>());
    assert_eq!(hand.used(1), None);
    assert_eq!(hand.bench.interrupts(), 1);
}

#[test]
fn a_driver_that_wants_no_interrupt_gets_none() {
    for (flags, interrupts) in [(OFF, 0), (ON, 1), (THERE, 1), (3, 1)] {
        let mut hand = Hand::new(4, PLAIN);
        hand.wish(0, flags);
        hand.offer(0, &[(DATA, 1, 0)]);
        assert_eq!(hand.serve(), [0]);
        assert_eq!(hand.bench.interrupts(), interrupts, "event flags {flags}, without event index");
    }
}

#[test]
fn the_event_index_chooses_interrupts() {
    let mut hand = Hand::new(3, Features::EVENT_IDX);
    // After the third of a round of three, then after the first of the round behind it.
    let mut interrupts = vec![];
    for wish in [At(2, true), At(2, true), At(2, true), At(1, false), At(1, false), At(1, false)] {
        hand.wish(wish.word(), THERE);
        hand.offer(0, &[(DATA, 1, 0)]);
        hand.serve();
        interrupts.push(hand.bench.interrupts());
    }
    assert_eq!(interrupts, [0, 0, 1, 0, 1, 0]);
    hand.wish(At(2, false).word(), THERE);
    hand.offer(1, &[(DATA, 1, 0), (DATA, 1, 0)]);
    hand.serve();
    assert_eq!(hand.bench.interrupts(), 0, "passed in the round before");
    hand.wish(0, OFF);
    hand.offer(0, &[(DATA, 1, 0)]);
    hand.serve();
    assert_eq!(hand.bench.interrupts(), 0, "off is off, with event index too");
}

#[test]
fn a_chain_that_passes_over_the_event_interrupts() {
    let mut hand = Hand::new(4, Features::EVENT_IDX);
    hand.wish(At(1, true).word(), THERE);
    hand.offer(0, &[(DATA, 1, 0), (DATA, 1, 0), (DATA, 1, 0)]);
    hand.serve();
    assert_eq!(hand.bench.interrupts(), 1);
    hand.wish(At(0, false).word(), THERE);
    hand.offer(0, &[(DATA, 1, 0), (DATA, 1, 0)]);
    hand.serve();
    assert_eq!(hand.bench.interrupts(), 1, "over the ring's end");
}

#[test]
fn the_device_asks_for_the_next_kick_and_for_none_while_it_is_stopped() {
    let mut hand = Hand::new(4, PLAIN);
    hand.offer(0, &[(DATA, 1, 0)]);
    assert_eq!(hand.bench.queue.drain(Serve::Stop), Drained::Stopped);
    assert_eq!(hand.asked(), (0, OFF));
    hand.serve();
    assert_eq!(hand.asked(), (0, ON));

    let mut hand = Hand::new(2, Features::EVENT_IDX);
    for expected in [At(1, true), At(0, false), At(1, false), At(0, true)] {
        hand.offer(0, &[(DATA, 1, 0)]);
        hand.serve();
        assert_eq!(hand.asked(), (expected.word(), THERE));
    }
}

#[test]
fn what_comes_while_kicks_are_asked_for_is_seen() {
    let mut hand = Hand::new(4, Features::EVENT_IDX);
    assert!(!hand.bench.queue.look_again());
    hand.offer(0, &[(DATA, 1, 0)]);
    assert!(hand.bench.queue.look_again());
    assert!(hand.bench.queue.pop().is_some());
}

#[test]
fn a_chain_that_was_stopped_is_the_next_one_again() {
    let mut hand = Hand::going_on(4, memory(), At(3, false));
    hand.offer(2, &[(DATA, 1, 0), (DATA, 1, 0)]);
    hand.offer(1, &[(DATA, 1, 0)]);
    let state = hand.bench.queue.state();
    let mut heads = vec![];
    for _ in 0..2 {
        hand.bench.queue.drain(|chain| {
            heads.push(chain.head());
            Serve::Stop(chain)
        });
        assert_eq!(hand.bench.queue.state(), state, "before the ring's end");
    }
    assert_eq!((heads, hand.serve()), (vec![2, 2], vec![2, 1]));
}

#[test]
fn chains_that_are_kept_are_completed_later_in_any_order() {
    let mut hand = Hand::new(6, PLAIN);
    hand.offer(0, &[(DATA, 8, WRITE), (DATA, 8, WRITE)]);
    hand.offer(1, &[(DATA, 8, WRITE)]);
    hand.offer(2, &[(DATA, 8, WRITE), (DATA, 8, WRITE), (DATA, 8, WRITE)]);
    let mut kept = vec![];
    hand.bench.queue.drain(|chain| {
        kept.push(chain);
        Serve::Later
    });
    assert_eq!((hand.used(1), hand.bench.interrupts()), (None, 0));
    for chain in kept.into_iter().rev() {
        let written = 10 + u32::from(chain.head());
        hand.bench.queue.push(chain, written);
    }
    hand.bench.queue.signal();
    let used = [hand.used(3), hand.used(1), hand.used(2)];
    assert_eq!(used, [Some((2, Some(12))), Some((1, Some(11))), Some((0, Some(10)))]);
    assert_eq!(hand.bench.interrupts(), 1);
}

#[test]
fn a_used_descriptor_is_the_drivers_again() {
    let mut hand = Hand::new(3, PLAIN);
    hand.offer(2, &[(DATA, 8, WRITE), (DATA, 8, WRITE)]);
    hand.bench.queue.drain(|chain| Serve::Done(chain, 9));
    let used = hand.upper(0);
    hand.offer(0, &[(DATA, 8, 0)]);
    assert_eq!(hand.serve(), [0]);
    assert!(hand.serve().is_empty());
    assert_eq!((hand.upper(0), used.0, used.1), (used, 9, 2), "written once");
}

#[test]
fn an_indirect_table_is_one_chain_whatever_its_other_flags_say() {
    let mut hand = Hand::new(4, Features::RING);
    hand.raw(TABLE, 0, (DATA, 2, 99, 0));
    hand.raw(TABLE, 1, (DATA, 3, 99, NEXT | INDIRECT));
    hand.raw(TABLE, 2, (DATA, 4, 99, WRITE));
    let entries = hand.offer(3, &[(TABLE, 48, INDIRECT | WRITE)]);
    let mut lengths = (0, 0);
    hand.bench.queue.drain(|mut chain| {
        lengths = (chain.readable().len(), chain.writable().len());
        Serve::Done(chain, 4)
    });
    assert_eq!((lengths, entries), ((5, 4), 1));
    assert_eq!(hand.used(entries), Some((3, Some(4))));
}

#[test]
fn a_queue_goes_on_where_another_ended() {
    let mut first = Hand::new(3, PLAIN);
    for _ in 0..4 {
        first.offer(0, &[(DATA, 1, 0)]);
        assert_eq!(first.serve(), [0]);
    }
    let state = first.bench.queue.state();
    let base = state.vring_base(PACKED);
    assert_eq!((state, base), (QueueState { next_avail: 1, next_used: 1 }, 0x0001_0001));
    let memory = first.bench.memory.clone();
    let mut second = Hand::going_on(3, memory, At(1, false));
    assert_eq!(QueueState::from_vring_base(PACKED, base), second.bench.queue.state());
    assert!(second.serve().is_empty(), "what is left of the round before is not available");
    second.offer(2, &[(DATA, 1, 0)]);
    assert_eq!(second.serve(), [2]);
    assert_eq!(second.used(1), Some((2, None)));
}

#[test]
fn a_state_outside_of_the_ring_stays_in_the_ring() {
    let state = QueueState { next_avail: 0xffff, next_used: 0x7fff };
    let mut bench = Bench::with(memory(), params(5), PACKED, state).unwrap();
    assert!(bench.queue.pop().is_none());
    assert_eq!(bench.queue.state(), QueueState { next_avail: 0x8002, next_used: 2 });
}

#[test]
fn rings_that_cannot_be_are_refused_at_the_start() {
    let good = params(8);
    let (driver, device) =
        ("driver event suppression structure", "device event suppression structure");
    let cases = [
        (QueueParams { size: 0, ..good }, QueueError::Size(0)),
        (QueueParams { size: 0x8001, ..good }, QueueError::Size(0x8001)),
        (
            QueueParams { desc: DESC + 8, ..good },
            QueueError::Alignment { part: "descriptor ring", address: DESC + 8, align: 16 },
        ),
        (
            QueueParams { driver: AVAIL + 2, ..good },
            QueueError::Alignment { part: driver, address: AVAIL + 2, align: 4 },
        ),
        (QueueParams { device: END, ..good }, QueueError::Ring { part: device, address: END }),
        (
            QueueParams { desc: SEAM - 16, ..good },
            QueueError::Ring { part: "descriptor ring", address: SEAM - 16 },
        ),
    ];
    for (params, expected) in cases {
        let error = Bench::with(memory(), params, PACKED, QueueState::fresh(PACKED)).err();
        assert_eq!(error, Some(expected));
    }
}
