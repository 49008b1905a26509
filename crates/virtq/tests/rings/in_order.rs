//! IN_ORDER: chains come back in the order in which they were offered.

use crate::bench::*;
use crate::hand::*;
use cubie_virtq::{Chain, Drained, Features, QueueState, Serve, Virtqueue};
use proptest::prelude::*;

const IN_ORDER: Features = Features::VERSION_1.with(Features::IN_ORDER);

fn take_all(queue: &mut Virtqueue) -> Vec<Chain> {
    let mut kept = vec![];
    let end = queue.drain(|chain| {
        kept.push(chain);
        Serve::Later
    });
    assert_eq!(end, Drained::Empty);
    kept
}

/// A split ring with `heads` offered, each with 8 bytes to write.
fn split(heads: u16) -> Bench {
    let mut bench = Bench::new(8, IN_ORDER);
    for head in 0..heads {
        bench.descriptor(DESC, head, (DATA, 8, WRITE, 0));
        bench.offer(head);
    }
    bench
}

#[test]
fn what_completes_too_early_waits_for_those_before_it() {
    let mut bench = split(3);
    let mut kept = take_all(&mut bench.queue);
    for (index, interrupts) in [(2, 0), (1, 0), (0, 1)] {
        bench.queue.push(kept.remove(index), 10 + index as u32);
        bench.queue.signal();
        assert_eq!(bench.interrupts(), interrupts, "nothing to tell before the first is complete");
        assert_eq!(bench.get16(USED + 2), if index == 0 { 3 } else { 0 });
    }
    assert_eq!([bench.used(0), bench.used(1), bench.used(2)], [(0, 10), (1, 11), (2, 12)]);
}

#[test]
fn a_run_of_full_chains_is_one_used_entry_in_a_split_ring() {
    let mut bench = split(4);
    for (chain, written) in take_all(&mut bench.queue).into_iter().zip([8, 8, 3, 8]) {
        bench.queue.push(chain, written);
    }
    bench.queue.signal();
    assert_eq!(bench.get16(USED + 2), 4);
    assert_eq!(bench.used(0), (2, 3), "three chains, of which the last is not full");
    assert_eq!(bench.used(1), (0, 0), "skipped");
    assert_eq!(bench.used(3), (3, 8), "the next batch, behind the three");
    assert_eq!(bench.queue.state(), QueueState { next_avail: 4, next_used: 4 });
}

#[test]
fn a_run_of_full_chains_is_one_used_descriptor_in_a_packed_ring() {
    let mut hand = Hand::new(5, IN_ORDER);
    let mut entries = 0;
    for id in 0..2 {
        entries += hand.offer(id, &[(DATA, 4, 0), (DATA, 4, 0)]);
    }
    assert_eq!(hand.serve(), [0, 1]);
    assert_eq!(hand.used(entries), Some((1, None)), "nothing was to be written: all are full");
    let mut entries = hand.offer(2, &[(DATA, 4, WRITE), (DATA, 4, WRITE)]);
    entries += hand.offer(3, &[(DATA, 4, WRITE)]);
    hand.bench.queue.drain(|chain| {
        let written = if chain.head() == 2 { 8 } else { 1 };
        Serve::Done(chain, written)
    });
    assert_eq!(hand.used(entries), Some((3, Some(1))), "over the ring's end");
}

#[test]
fn a_chain_that_was_given_back_keeps_its_turn() {
    let mut bench = split(2);
    let first = bench.queue.pop().unwrap();
    let second = bench.queue.pop().unwrap();
    bench.queue.unpop(second);
    bench.queue.push(first, 1);
    bench.queue.drain(|chain| Serve::Done(chain, 2));
    assert_eq!([bench.used(0), bench.used(1)], [(0, 1), (1, 2)]);
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn whatever_the_order_of_completion_the_driver_sees_its_own(
        packed: bool,
        size in 1u16..9,
        rounds in prop::collection::vec(prop::collection::vec(any::<(u8, bool)>(), 1..9), 1..12),
    ) {
        let size = if packed { size } else { size.next_power_of_two() };
        let ring = if packed { PACKED.with(IN_ORDER) } else { IN_ORDER };
        let mut hand = Hand { bench: Bench::new(size, ring), next: At(0, true), used: At(0, true) };
        let mut seen = 0;
        for round in rounds {
            let chains = round.len().min(size.into()) as u16;
            for id in 0..chains {
                if packed {
                    hand.offer(id, &[(DATA, 8, WRITE)]);
                } else {
                    hand.bench.descriptor(DESC, id, (DATA, 8, WRITE, 0));
                    hand.bench.offer(id);
                }
            }
            let mut kept = take_all(&mut hand.bench.queue);
            let written = |id: u16| if round[usize::from(id)].1 { 8 } else { 5 };
            for (pick, _) in &round[..chains.into()] {
                let chain = kept.swap_remove(usize::from(*pick) % kept.len());
                let written = written(chain.head());
                hand.bench.queue.push(chain, written);
                hand.bench.queue.signal();
            }
            // The driver: a used entry stands for all up to its own, those before it being full.
            let mut next = 0;
            while next < chains {
                let (id, len) = if packed {
                    let (len, id, _) = hand.upper(hand.used.0);
                    prop_assert!(is_used(&hand.bench.memory, hand.used));
                    (id, len)
                } else {
                    let (id, len) = hand.bench.used(seen);
                    (id as u16, len)
                };
                prop_assert!((next..chains).contains(&id), "{id} after {next}");
                prop_assert!((next..id).all(|skipped| written(skipped) == 8));
                prop_assert_eq!(len, written(id));
                (next..=id).for_each(|_| hand.used.step(size));
                seen += id + 1 - next;
                next = id + 1;
            }
            if !packed {
                prop_assert_eq!(hand.bench.get16(USED + 2), seen);
            }
        }
    }
}
