//! Notes on what is in flight, which outlive the device: each queue here ends as if its process were killed.

use std::sync::Arc;

use crate::bench::*;
use cubie_virtq::{Drained, Features, Inflight, QueueError, QueueState, Serve};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const PLAIN: Features = Features::VERSION_1;
const SIZE: u16 = 8;

/// Where the notes have the last head of a batch, the used index, and what is known of a head.
const LAST: u64 = 12;
const USED_INDEX: u64 = 14;
fn entry(head: u16) -> GuestAddress {
    GuestAddress(16 + 16 * u64::from(head))
}

fn notes() -> Arc<GuestMemoryMmap> {
    let region = (GuestAddress(0), Inflight::bytes(SIZE) as usize);
    Arc::new(GuestMemoryMmap::from_ranges(&[region]).unwrap())
}

/// A queue over the ring of `bench`, with these notes and nothing else that it knows.
fn successor(bench: &Bench, notes: &Arc<GuestMemoryMmap>, features: Features) -> Bench {
    let memory = bench.memory.clone();
    let state = QueueState::fresh(features);
    let mut next = Bench::with(memory, params(SIZE), features, state).unwrap();
    next.avail = bench.avail;
    let inflight = Inflight::new(notes.clone(), 0, SIZE).unwrap();
    next.queue = next.queue.tracked(inflight);
    next
}

/// A queue with notes, for whose driver all heads are offered in turn.
fn tracked(notes: &Arc<GuestMemoryMmap>) -> Bench {
    let mut bench = successor(&Bench::new(SIZE, PLAIN), notes, PLAIN);
    for head in 0..SIZE {
        bench.descriptor(DESC, head, (DATA, 1, WRITE, 0));
        bench.offer(head);
    }
    bench
}

/// All that the queue takes, and completes.
fn heads(bench: &mut Bench) -> Vec<u16> {
    let mut heads = vec![];
    bench.queue.drain(|chain| {
        heads.push(chain.head());
        Serve::Done(chain, 1)
    });
    heads
}

#[test]
fn what_was_in_flight_is_taken_again_in_its_order_and_before_all_else() {
    let notes = notes();
    let mut bench = tracked(&notes);
    let mut chains: Vec<_> = (0..6).map(|_| bench.queue.pop().unwrap()).collect();
    for at in [4, 2, 0] {
        bench.queue.push(chains.remove(at), 1);
    }
    bench.queue.signal();
    let mut next = successor(&bench, &notes, PLAIN);
    assert_eq!(heads(&mut next), [1, 3, 5, 6, 7]);
    assert_eq!(next.get16(USED + 2), SIZE, "each once");
    let mut after = successor(&next, &notes, PLAIN);
    assert_eq!(heads(&mut after), [0; 0]);
    after.offer(3);
    assert_eq!(heads(&mut after), [3]);
}

#[test]
fn it_may_be_killed_again_and_again() {
    let notes = notes();
    let mut bench = tracked(&notes);
    let mut used = vec![];
    for turn in 0..SIZE {
        // All are taken, one of them comes back.
        let mut chains: Vec<_> = std::iter::from_fn(|| bench.queue.pop()).collect();
        assert_eq!(chains.len(), usize::from(SIZE - turn));
        let chain = chains.remove(usize::from(turn) % chains.len());
        used.push(chain.head());
        bench.queue.push(chain, 1);
        bench.queue.signal();
        bench = successor(&bench, &notes, PLAIN);
    }
    used.sort_unstable();
    assert_eq!(used, (0..SIZE).collect::<Vec<_>>());
    assert!(bench.queue.pop().is_none());
}

#[test]
fn a_batch_that_was_shown_and_not_yet_crossed_off_is_not_taken_again() {
    let notes = notes();
    let mut bench = tracked(&notes);
    let mut chains: Vec<_> = (0..4).map(|_| bench.queue.pop().unwrap()).collect();
    bench.queue.push(chains.remove(0), 1);
    bench.queue.signal();
    let before: u16 = notes.read_obj(GuestAddress(USED_INDEX)).unwrap();
    bench.queue.push(chains.remove(1), 1);
    bench.queue.push(chains.remove(0), 1);
    bench.queue.signal();
    // As it was just after the driver could see the last two.
    notes.write_obj(before, GuestAddress(USED_INDEX)).unwrap();
    for head in [1, 2] {
        notes.write_obj(1u8, entry(head)).unwrap();
    }
    assert_eq!(heads(&mut successor(&bench, &notes, PLAIN)), [3, 4, 5, 6, 7]);
}

#[test]
fn a_batch_that_was_not_shown_is_taken_again() {
    let notes = notes();
    let mut bench = tracked(&notes);
    let [one, two] = [(); 2].map(|()| bench.queue.pop().unwrap());
    bench.queue.push(two, 1);
    bench.queue.push(one, 1);
    assert_eq!(heads(&mut successor(&bench, &notes, PLAIN)), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn what_was_given_back_is_next_and_noted() {
    let notes = notes();
    let mut bench = tracked(&notes);
    assert_eq!(bench.queue.drain(Serve::Stop), Drained::Stopped);
    assert_eq!(bench.queue.pop().map(|chain| chain.head()), Some(0));
    let mut next = successor(&bench, &notes, PLAIN);
    // Also one that is taken again.
    assert_eq!(next.queue.drain(Serve::Stop), Drained::Stopped);
    assert_eq!(next.queue.state().next_avail, 0);
    assert_eq!(heads(&mut next), (0..SIZE).collect::<Vec<_>>());
}

#[test]
fn notes_that_somebody_has_spoilt_cost_nothing_but_answers() {
    for fill in [0x00, 0x01, 0x7f, 0xff] {
        for known in [false, true] {
            let notes = notes();
            let mut bench = tracked(&notes);
            notes
                .write_slice(&vec![fill; Inflight::bytes(SIZE) as usize], GuestAddress(0))
                .unwrap();
            if known {
                notes.write_slice(&[1, 0, SIZE as u8, 0], GuestAddress(8)).unwrap();
            }
            let mut next = successor(&bench, &notes, PLAIN);
            let taken = heads(&mut next);
            assert!(taken.iter().all(|head| *head < SIZE), "{taken:?}");
            // And while it is served.
            drop(bench.queue.pop());
            notes.write_obj(u16::MAX, GuestAddress(LAST)).unwrap();
            heads(&mut bench);
        }
    }
}

#[test]
fn notes_need_room() {
    let error = Inflight::new(notes(), 0, 2 * SIZE).unwrap_err();
    assert_eq!(error, QueueError::Ring { part: "in-flight notes", address: 0 });
}

#[test]
fn of_packed_rings_nothing_is_noted() {
    let notes = notes();
    let features = PLAIN.with(Features::PACKED);
    successor(&Bench::new(SIZE, features), &notes, features);
    let mut bytes = [0; 16];
    notes.read_slice(&mut bytes, GuestAddress(0)).unwrap();
    assert_eq!(bytes, [0; 16]);
}
