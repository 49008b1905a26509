//! Several chains lent as one room.

use crate::bench::*;
use crate::hand::*;
use cubie_virtq::{Features, QueueParams, QueueState, Room};
use vm_memory::{Bytes, GuestAddress};

/// A split ring with chains of these lengths offered, one behind the other in memory, the first of them
/// from a few bytes before the seam on.
fn bench(features: Features, lens: &[u32]) -> Bench {
    let mut bench = Bench::new(8, features);
    let mut at = SEAM - 4;
    for (head, len) in (0..).zip(lens) {
        bench.descriptor(DESC, head, (at, *len, WRITE, 0));
        bench.offer(head);
        at += u64::from(*len);
    }
    bench
}

fn bytes(bench: &Bench, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bench.memory.read_slice(&mut bytes, GuestAddress(SEAM - 4)).unwrap();
    bytes
}

#[test]
fn a_packet_is_spread_over_as_many_chains_as_it_needs_with_its_header_written_last() {
    let mut bench = bench(Features::VERSION_1, &[10, 5, 5, 7]);
    let mut room = Room::default();
    room.fill(&mut bench.queue, usize::MAX, usize::MAX);
    assert_eq!(room.len(), 27);
    let mut rest = room.lend(3).unwrap();
    assert_eq!(rest.len(), 24);
    assert_eq!(rest.write(b"abcdefghijkl"), 12);
    assert_eq!(room.header().write(b"HEAD"), 3, "no more than was set aside");
    let mut peeked = [0; 6];
    assert_eq!(room.peek(9, &mut peeked), 6, "across two chains");
    assert_eq!(&peeked, b"ghijkl");
    assert_eq!((room.count(15), room.count(16)), (2, 3));
    assert_eq!(room.push(&mut bench.queue, 15), 2);
    bench.queue.signal();
    assert_eq!(bench.get16(USED + 2), 2);
    assert_eq!([bench.used(0), bench.used(1)], [(0, 10), (1, 5)], "all but the last are full");
    assert_eq!(&bytes(&bench, 15), b"HEAabcdefghijkl");

    // The next one begins at the next chain.
    room.lend(0).unwrap().write(b"xyz");
    assert_eq!(room.push(&mut bench.queue, 3), 1);
    bench.queue.signal();
    assert_eq!(bench.used(2), (2, 3));
    assert_eq!(room.len(), 7);
    assert_eq!(&bytes(&bench, 18)[15..], b"xyz");
}

#[test]
fn a_room_takes_no_more_than_it_needs_and_gives_back_what_it_has() {
    for features in [Features::VERSION_1, Features::VERSION_1.with(Features::IN_ORDER)] {
        let mut bench = bench(features, &[10, 0, 5, 7]);
        let mut room = Room::default();
        for (len, most, expected) in [(0, 9, 0), (1, 9, 10), (11, 2, 10), (11, 9, 15)] {
            room.fill(&mut bench.queue, len, most);
            assert_eq!(room.len(), expected, "{len} bytes of at most {most} chains");
        }
        assert!(room.lend(16).is_none());
        room.push(&mut bench.queue, 4);
        room.give_back(&mut bench.queue);
        assert!(room.is_empty());
        assert!(room.lend(1).is_none());
        bench.queue.signal();
        assert_eq!(bench.used(0), (0, 4));
        let state = bench.queue.state();
        assert_eq!((state.next_avail, state.next_used), (1, 1));
        room.fill(&mut bench.queue, usize::MAX, usize::MAX);
        assert_eq!(room.len(), 12);
        // A chain without room is completed, too.
        assert_eq!(room.push(&mut bench.queue, 0), 1);
        assert_eq!(room.push(&mut bench.queue, 12), 2);
        bench.queue.signal();
        assert_eq!(bench.get16(USED + 2), 4);
        assert!(!bench.queue.look_again());
    }
}

#[test]
fn a_packed_ring_takes_its_chains_back_over_its_end() {
    let mut hand = Hand::new(4, PACKED);
    let mut room = Room::default();
    for round in 0..6 {
        let chain = [(DATA, 6, WRITE), (DATA + 6, 4, WRITE)];
        assert_eq!(hand.offer(0, &chain), 2);
        assert_eq!(hand.offer(1, &chain[..1]), 1);
        room.fill(&mut hand.bench.queue, usize::MAX, usize::MAX);
        assert_eq!(room.len(), 16, "round {round}");
        room.give_back(&mut hand.bench.queue);
        room.fill(&mut hand.bench.queue, usize::MAX, usize::MAX);
        assert_eq!(room.push(&mut hand.bench.queue, 12), 2);
        hand.bench.queue.signal();
        assert_eq!(hand.used(2), Some((0, Some(10))));
        assert_eq!(hand.used(1), Some((1, Some(2))));
    }
}

#[test]
fn a_room_of_small_pieces_is_never_more_than_a_system_call_takes() {
    let features = Features::VERSION_1;
    let params = QueueParams { desc: DATA, ..params(1024) };
    let mut bench = Bench::with(memory(), params, features, QueueState::fresh(features)).unwrap();
    for head in 0..1024 {
        bench.descriptor(DATA, head, (SEAM + u64::from(head), 1, WRITE, 0));
        bench.offer(head);
    }
    let mut room = Room::default();
    room.fill(&mut bench.queue, usize::MAX, usize::MAX);
    assert_eq!(room.len(), 1024);
    assert_eq!(room.lend(12).unwrap().len(), 244);
    room.give_back(&mut bench.queue);

    // What does not get into them at once is copied.
    let mut room = Room::with_spare(1024);
    room.fill(&mut bench.queue, 300, usize::MAX);
    assert_eq!(room.chains(), 300);
    assert_eq!(room.lend(12).unwrap().write(&[7; 288]), 288);
    assert!(room.settle(300));
    assert_eq!(room.push(&mut bench.queue, 300), 300);
    assert_eq!(bench.memory.read_obj::<u8>(GuestAddress(SEAM + 299)).unwrap(), 7);
}

#[test]
fn what_does_not_fit_waits_in_the_room_for_further_chains() {
    let mut bench = bench(Features::VERSION_1, &[10, 5]);
    let mut room = Room::with_spare(20);
    room.fill(&mut bench.queue, 20, usize::MAX);
    assert_eq!(room.len(), 15);
    assert!(room.lend(16).is_none(), "a header is not put into memory of the room's own");
    let mut rest = room.lend(3).unwrap();
    assert_eq!(rest.len(), 32);
    assert_eq!(rest.write(b"abcdefghijklmnopqr"), 18);
    let mut peeked = [0; 8];
    assert_eq!(room.peek(11, &mut peeked), 8);
    assert_eq!(&peeked, b"ijklmnop");

    assert!(!room.settle(21), "there are six bytes too many");
    for head in 2..4 {
        bench.descriptor(DESC, head, (SEAM - 4 + 15 + 4 * (u64::from(head) - 2), 4, WRITE, 0));
        bench.offer(head);
        room.fill(&mut bench.queue, 21, usize::MAX);
        assert_eq!(room.settle(21), head == 3);
    }
    assert_eq!((room.take_copied(), room.take_copied()), (6, 0), "what had no place is copied");
    room.header().write(b"HEA");
    assert_eq!((room.count(21), room.push(&mut bench.queue, 21)), (4, 4));
    bench.queue.signal();
    assert_eq!([0, 1, 2, 3].map(|slot| bench.used(slot).1), [10, 5, 4, 2]);
    assert_eq!(&bytes(&bench, 21), b"HEAabcdefghijklmnopqr");
}

#[test]
fn a_room_of_its_own_is_not_lent_when_chains_have_as_much() {
    let mut bench = bench(Features::VERSION_1, &[10, 10]);
    let mut room = Room::with_spare(20);
    room.fill(&mut bench.queue, 20, usize::MAX);
    assert_eq!(room.lend(0).unwrap().len(), 20);
    assert!(room.settle(20));
    assert_eq!(room.push(&mut bench.queue, 20), 2);
}
