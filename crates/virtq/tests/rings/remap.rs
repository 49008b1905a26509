//! Memory in several pieces, and memory that changes its place.

use std::sync::Arc;

use crate::bench::*;
use crate::hand::*;
use cubie_virtq::{Features, QueueError, Serve};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// Another memory with the same bytes.
fn moved(memory: &GuestMemoryMmap) -> Arc<GuestMemoryMmap> {
    let other = super::bench::memory();
    let mut bytes = vec![0; END as usize];
    memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
    other.write_slice(&bytes, GuestAddress(0)).unwrap();
    other
}

#[test]
fn a_queue_goes_on_in_another_mapping_and_chains_in_flight_keep_theirs() {
    let mut hand = Hand::new(4, Features::VERSION_1);
    let old = hand.bench.memory.clone();
    hand.offer(0, &[(DATA, 4, WRITE)]);
    let mut before = hand.bench.queue.pop().unwrap();
    hand.bench.memory = moved(&old);
    hand.bench.queue.remap(hand.bench.memory.clone()).unwrap();
    hand.offer(1, &[(DATA, 4, WRITE)]);
    let mut after = hand.bench.queue.pop().unwrap();
    before.writable().write(b"old!");
    after.writable().write(b"new!");
    hand.bench.queue.push(before, 4);
    hand.bench.queue.push(after, 4);
    hand.bench.queue.signal();
    assert_eq!([hand.used(1), hand.used(1)], [Some((0, Some(4))), Some((1, Some(4)))]);
    let word =
        |memory: &GuestMemoryMmap| -> [u8; 4] { memory.read_obj(GuestAddress(DATA)).unwrap() };
    assert_eq!((&word(&old), &word(&hand.bench.memory)), (b"old!", b"new!"));
    assert_eq!(Arc::strong_count(&old), 1, "nothing holds the old mapping any more");
}

#[test]
fn buffers_that_are_swapped_are_still_those_of_their_chains() {
    let mut queues = [(); 2].map(|()| Hand::new(2, Features::VERSION_1));
    let [mut one, mut two] = queues.each_mut().map(|hand| {
        hand.offer(0, &[(DATA, 4, WRITE)]);
        hand.bench.queue.pop().unwrap()
    });
    {
        let (mut first, mut second) = (one.writable(), two.writable());
        std::mem::swap(&mut first, &mut second);
        first.write(b"two!");
    }
    one.writable().write(b"one!");
    assert_eq!([one.writable().len(), two.writable().len()], [0, 0]);
    let words: [[u8; 4]; 2] =
        queues.map(|hand| hand.bench.memory.read_obj(GuestAddress(DATA)).unwrap());
    assert_eq!(words, [*b"one!", *b"two!"]);
}

#[test]
fn a_split_queue_goes_on_in_another_mapping() {
    let mut bench = Bench::new(4, Features::VERSION_1);
    bench.descriptor(DESC, 0, (DATA, 1, 0, 0));
    bench.memory = moved(&bench.memory);
    bench.queue.remap(bench.memory.clone()).unwrap();
    bench.offer(0);
    bench.queue.drain(|chain| Serve::Done(chain, 0));
    assert_eq!(bench.get16(USED + 2), 1);
}

#[test]
fn a_map_without_the_ring_is_refused_and_the_queue_goes_on_in_the_old_one() {
    let mut hand = Hand::new(4, Features::VERSION_1);
    let small = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), USED as usize)]).unwrap();
    let part = "device event suppression structure";
    let error = hand.bench.queue.remap(small.into());
    assert_eq!(error, Err(QueueError::Ring { part, address: USED }));
    hand.offer(3, &[(DATA, 1, 0)]);
    assert_eq!((hand.serve(), hand.bench.queue.error()), (vec![3], None));
}

#[test]
fn an_indirect_table_may_lie_across_regions_and_between_two_words() {
    for table in [SEAM - 16, SEAM - 12, SEAM - 5, SEAM - 32 - 1, SEAM + 4] {
        a_table_of_two_is_read(table);
    }
}

fn a_table_of_two_is_read(table: u64) {
    let tail = [(DATA, 2, 0), (SEAM + 0x800, 4, WRITE)];
    let mut lengths = vec![];
    let mut serve = |bench: &mut Bench| {
        bench.queue.drain(|mut chain| {
            lengths.push((chain.readable().len(), chain.writable().len()));
            Serve::Done(chain, 0)
        });
    };
    let mut hand = Hand::new(4, Features::RING);
    for (index, (address, len, flags)) in (0..).zip(tail) {
        hand.raw(table, index, (address, len, 0, flags));
    }
    hand.offer(0, &[(table, 32, INDIRECT)]);
    serve(&mut hand.bench);
    let mut bench = Bench::new(4, Features::RING);
    bench.descriptor(table, 0, (DATA, 2, NEXT, 1));
    bench.descriptor(table, 1, (SEAM + 0x800, 4, WRITE, 0));
    bench.descriptor(DESC, 0, (table, 32, INDIRECT, 0));
    bench.offer(0);
    serve(&mut bench);
    assert_eq!(lengths, [(2, 4); 2], "{table:#x}");
}

#[test]
fn an_indirect_table_across_the_end_of_memory_is_refused() {
    for (address, len) in [(END - 16, 32), (END - 12, 32), (u64::MAX - 15, 32)] {
        let mut hand = Hand::new(4, Features::RING);
        hand.offer(0, &[(address, len, INDIRECT)]);
        assert!(hand.serve().is_empty());
        assert_eq!(hand.bench.queue.error(), Some(QueueError::Buffer { address, len }));
    }
}

#[test]
#[cfg_attr(miri, ignore = "131,068 words take Miri a minute, the next smaller test the same way")]
fn the_largest_table_across_regions_is_read_to_its_end() {
    let size = 1 << 20;
    let regions = [(GuestAddress(0), size), (GuestAddress(size as u64), size)];
    let memory = Arc::new(GuestMemoryMmap::from_ranges(&regions).unwrap());
    assert_eq!(memory.num_regions(), 2);
    let (state, features) = (Default::default(), Features::RING);
    let mut bench = Bench::with(memory, params(4), features, state).unwrap();
    let table = size as u64 - 0x100;
    bench.descriptor(table, 0, (DATA, 1, NEXT, 65534));
    bench.descriptor(table, 65534, (DATA, 2, 0, 0));
    bench.descriptor(DESC, 0, (table, 16 * 65535, INDIRECT, 0));
    bench.offer(0);
    let mut len = 0;
    bench.queue.drain(|mut chain| {
        len = chain.readable().len();
        Serve::Done(chain, 0)
    });
    assert_eq!(len, 3);
}

#[test]
fn the_used_index_of_a_split_ring_is_read_from_the_ring() {
    let mut bench = Bench::new(4, Features::VERSION_1);
    bench.descriptor(DESC, 0, (DATA, 1, 0, 0));
    bench.offer(0);
    bench.queue.drain(|chain| Serve::Done(chain, 0));
    assert_eq!(params(4).used_index(&bench.memory), Ok(1));
    let nowhere = cubie_virtq::QueueParams { device: END, ..params(4) };
    let missing = QueueError::Ring { part: "used ring", address: END };
    assert_eq!(nowhere.used_index(&bench.memory), Err(missing));
}
