//! The split ring against a driver written by hand, well-behaved and hostile.

use crate::bench::*;
use cubie_virtq::{Drained, Features, QueueError, QueueParams, QueueState, Serve, Signals};
use vm_memory::{Bytes, GuestAddress};

const EVENT_IDX: Features = Features::bit(29);
const PLAIN: Features = Features::VERSION_1;

#[test]
fn buffers_arrive_in_order_and_lengths_go_back() {
    let mut bench = Bench::new(8, PLAIN);
    bench.memory.write_slice(b"hello", GuestAddress(DATA)).unwrap();
    bench.descriptor(DESC, 3, (DATA, 2, NEXT, 5));
    bench.descriptor(DESC, 5, (DATA + 2, 3, NEXT, 0));
    bench.descriptor(DESC, 0, (DATA + 0x100, 4, WRITE, 0));
    bench.offer(3);
    let end = bench.queue.drain(|mut chain| {
        let (mut readable, mut writable) = chain.split();
        assert_eq!((readable.len(), writable.len()), (5, 4));
        let mut word = [0; 5];
        readable.read(&mut word);
        assert_eq!(&word, b"hello");
        assert_eq!(writable.write(b"world!"), 4, "no more than there is room for");
        Serve::Done(chain, 4)
    });
    assert_eq!(end, Drained::Empty);
    assert_eq!((bench.get16(USED + 2), bench.used(0)), (1, (3, 4)));
    let mut answer = [0; 5];
    bench.memory.read_slice(&mut answer, GuestAddress(DATA + 0x100)).unwrap();
    assert_eq!(&answer, b"worl\0");
}

#[test]
fn a_batch_is_one_interrupt_and_one_update_of_the_index() {
    let mut bench = Bench::new(8, PLAIN);
    for head in 0..5 {
        bench.descriptor(DESC, head, (DATA, 1, 0, 0));
        bench.offer(head);
    }
    let (memory, mut seen) = (bench.memory.clone(), vec![]);
    bench.queue.drain(|chain| {
        seen.push(u16::from_le(memory.read_obj(GuestAddress(USED + 2)).unwrap()));
        Serve::Done(chain, 0)
    });
    assert_eq!(seen, [0; 5], "nothing is shown before the batch ends");
    assert_eq!((bench.get16(USED + 2), bench.interrupts()), (5, 1));
}

#[test]
fn the_driver_can_do_without_interrupts() {
    let mut bench = Bench::new(4, PLAIN);
    bench.descriptor(DESC, 0, (DATA, 1, 0, 0));
    bench.set16(AVAIL, 1);
    bench.offer(0);
    bench.queue.drain(|chain| Serve::Done(chain, 0));
    assert_eq!(bench.interrupts(), 0);
    let signals = bench.queue.take_signals();
    assert_eq!((signals.batches, signals.interrupts), (1, 0));
    bench.set16(AVAIL, 0);
    bench.offer(0);
    bench.queue.drain(|chain| Serve::Done(chain, 0));
    assert_eq!(bench.interrupts(), 1);
}

#[test]
fn with_event_index_the_driver_names_the_entry_that_interrupts() {
    let mut bench = Bench::new(4, EVENT_IDX);
    bench.descriptor(DESC, 0, (DATA, 1, 0, 0));
    bench.set16(AVAIL, 1); // NO_INTERRUPT, which counts no more
    bench.set16(AVAIL + 4 + 2 * 4, 2); // used_event: after the third
    let mut interrupts = vec![];
    for _ in 0..4 {
        bench.offer(0);
        bench.queue.drain(|chain| Serve::Done(chain, 0));
        interrupts.push(bench.interrupts());
    }
    assert_eq!(interrupts, [0, 0, 1, 0]);
}

#[test]
fn the_device_asks_for_the_next_kick_and_for_none_while_it_is_stopped() {
    let mut bench = Bench::new(4, PLAIN);
    bench.descriptor(DESC, 0, (DATA, 1, 0, 0));
    bench.offer(0);
    assert_eq!(bench.queue.drain(Serve::Stop), Drained::Stopped);
    assert_eq!(bench.get16(USED), 1, "NO_NOTIFY");
    assert_eq!(bench.queue.drain(|chain| Serve::Done(chain, 0)), Drained::Empty);
    assert_eq!(bench.get16(USED), 0);

    let mut bench = Bench::new(4, EVENT_IDX);
    bench.descriptor(DESC, 0, (DATA, 1, 0, 0));
    bench.offer(0);
    bench.queue.drain(|chain| Serve::Done(chain, 0));
    assert_eq!(bench.get16(USED + 4 + 8 * 4), 1, "avail_event");
    bench.offer(0);
    assert_eq!(bench.queue.drain(Serve::Stop), Drained::Stopped);
    assert_eq!(bench.get16(USED), 0, "with event index there are no flags");
}

#[test]
fn a_chain_that_was_stopped_is_the_next_one_again() {
    let mut bench = Bench::new(4, PLAIN);
    for head in [2, 1] {
        bench.descriptor(DESC, head, (DATA, 1, 0, 0));
        bench.offer(head);
    }
    let mut heads = vec![];
    for _ in 0..2 {
        bench.queue.drain(|chain| {
            heads.push(chain.head());
            Serve::Stop(chain)
        });
    }
    assert_eq!((heads, bench.queue.state()), (vec![2, 2], QueueState::default()));
}

#[test]
fn chains_that_are_kept_are_completed_later_in_any_order() {
    let mut bench = Bench::new(4, PLAIN);
    for head in [0, 1, 2] {
        bench.descriptor(DESC, head, (DATA, 8, WRITE, 0));
        bench.offer(head);
    }
    let mut kept = vec![];
    bench.queue.drain(|chain| {
        kept.push(chain);
        Serve::Later
    });
    assert_eq!((bench.get16(USED + 2), bench.interrupts()), (0, 0));
    for chain in kept.into_iter().rev() {
        let written = u32::from(chain.head());
        bench.queue.push(chain, written);
    }
    bench.queue.signal();
    assert_eq!([bench.used(0), bench.used(1), bench.used(2)], [(2, 2), (1, 1), (0, 0)]);
    assert_eq!(bench.interrupts(), 1);
}

#[test]
fn a_driver_that_never_stops_lets_other_events_in() {
    let mut bench = Bench::new(4, PLAIN);
    bench.descriptor(DESC, 0, (DATA, 1, 0, 0));
    for _ in 0..4 {
        bench.offer(0);
    }
    let (memory, mut index) = (bench.memory.clone(), bench.avail);
    let end = bench.queue.drain(|chain| {
        index = index.wrapping_add(1);
        memory.write_obj(index.to_le(), GuestAddress(AVAIL + 2)).unwrap();
        Serve::Done(chain, 0)
    });
    assert_eq!(end, Drained::Yielded);
    assert_eq!(bench.kick.read().unwrap(), 1, "and comes back by itself");
    let signals = Signals { batches: 4, interrupts: 4, own_kicks: 1 };
    assert_eq!(bench.queue.take_signals(), signals, "four batches");
    assert_eq!(bench.queue.take_signals(), Signals::default(), "since then");
    assert!(bench.get16(USED + 2) >= 16, "what was done is shown");
}

#[test]
fn an_indirect_table_is_one_chain_also_behind_direct_descriptors() {
    let mut bench = Bench::new(4, Features::RING);
    bench.descriptor(DESC, 0, (DATA, 1, NEXT, 1));
    bench.descriptor(DESC, 1, (TABLE, 32, INDIRECT | WRITE, 0));
    bench.descriptor(TABLE, 0, (DATA, 2, NEXT, 1));
    bench.descriptor(TABLE, 1, (DATA, 4, WRITE, 0));
    bench.offer(0);
    let mut lengths = (0, 0);
    bench.queue.drain(|mut chain| {
        lengths = (chain.readable().len(), chain.writable().len());
        Serve::Done(chain, 0)
    });
    assert_eq!(lengths, (3, 4));
}

#[test]
fn a_buffer_across_two_regions_is_two_pieces() {
    let mut bench = Bench::new(4, PLAIN);
    bench.memory.write_slice(b"across", GuestAddress(SEAM - 3)).unwrap();
    bench.descriptor(DESC, 0, (SEAM - 3, 6, 0, 0));
    bench.offer(0);
    bench.queue.drain(|mut chain| {
        assert_eq!(chain.readable().iovecs().len(), 2);
        assert_eq!(&chain.readable().read_array::<6>().unwrap(), b"across");
        Serve::Done(chain, 0)
    });
    assert_eq!(bench.queue.error(), None);
}

#[test]
fn the_status_byte_is_the_last_writable_one() {
    let mut bench = Bench::new(4, PLAIN);
    bench.descriptor(DESC, 0, (DATA, 4, WRITE | NEXT, 1));
    bench.descriptor(DESC, 1, (DATA + 8, 1, WRITE, 0));
    bench.offer(0);
    bench.queue.drain(|mut chain| {
        assert!(chain.reserve_status());
        assert_eq!(chain.writable().len(), 4);
        chain.set_status(7);
        Serve::Done(chain, 1)
    });
    assert_eq!(bench.memory.read_obj::<u8>(GuestAddress(DATA + 8)).unwrap(), 7);
}

#[test]
fn a_queue_goes_on_where_another_ended() {
    let mut first = Bench::new(4, PLAIN);
    first.descriptor(DESC, 0, (DATA, 1, 0, 0));
    for _ in 0..3 {
        first.offer(0);
        first.queue.drain(|chain| Serve::Done(chain, 0));
    }
    let state = first.queue.state();
    assert_eq!(state, QueueState { next_avail: 3, next_used: 3 });
    let mut second = Bench::with(first.memory.clone(), params(4), PLAIN, state).unwrap();
    second.offer(0);
    let mut served = 0;
    second.queue.drain(|chain| {
        served += 1;
        Serve::Done(chain, 0)
    });
    assert_eq!((served, second.get16(USED + 2)), (1, 4));
}

#[test]
fn indexes_wrap_at_sixteen_bits() {
    let state = QueueState { next_avail: 0xffff, next_used: 0xffff };
    let mut bench = Bench::with(memory(), params(4), EVENT_IDX, state).unwrap();
    bench.set16(AVAIL + 4 + 2 * 4, 0xffff);
    for head in 0..2 {
        bench.descriptor(DESC, head, (DATA, 1, 0, 0));
        bench.offer(head);
    }
    bench.queue.drain(|chain| Serve::Done(chain, 0));
    assert_eq!((bench.get16(USED + 2), bench.interrupts()), (1, 1));
}

#[test]
fn rings_that_cannot_be_are_refused_at_the_start() {
    let good = params(8);
    let cases = [
        (QueueParams { size: 6, ..good }, QueueError::Size(6)),
        (QueueParams { size: 0, ..good }, QueueError::Size(0)),
        (
            QueueParams { desc: DESC + 8, ..good },
            QueueError::Alignment { part: "descriptor table", address: DESC + 8, align: 16 },
        ),
        (
            QueueParams { device: USED + 2, ..good },
            QueueError::Alignment { part: "used ring", address: USED + 2, align: 4 },
        ),
        (
            QueueParams { driver: END, ..good },
            QueueError::Ring { part: "available ring", address: END },
        ),
        (
            QueueParams { desc: SEAM - 16, ..good },
            QueueError::Ring { part: "descriptor table", address: SEAM - 16 },
        ),
        (
            QueueParams { desc: u64::MAX - 15, ..good },
            QueueError::Ring { part: "descriptor table", address: u64::MAX - 15 },
        ),
    ];
    for (params, expected) in cases {
        let error = Bench::with(memory(), params, PLAIN, QueueState::default()).err();
        assert_eq!(error, Some(expected));
    }
}

/// Sets up one wrong chain at head 0, and expects `error`, said once.
fn broken(features: Features, set_up: impl FnOnce(&mut Bench), error: QueueError) {
    let mut bench = Bench::new(4, features);
    set_up(&mut bench);
    bench.offer(0);
    for _ in 0..2 {
        assert_eq!(bench.queue.drain(|_| panic!("{error} was served")), Drained::Broken);
    }
    assert_eq!(bench.queue.error(), Some(error));
    assert_eq!(bench.fault.read().unwrap(), 1, "{error} is told once");
    assert!(bench.queue.pop().is_none() && !bench.queue.look_again(), "and reads as empty");
}

#[test]
fn each_thing_that_no_driver_may_do_latches_its_error() {
    let no_such = QueueError::DescriptorIndex { index: 4, size: 4 };
    broken(PLAIN, |b| b.descriptor(DESC, 0, (DATA, 1, NEXT, 4)), no_such);
    let a_loop = QueueError::ChainLength(4);
    broken(PLAIN, |b| b.descriptor(DESC, 0, (DATA, 1, NEXT, 0)), a_loop);
    for (address, len) in [(END - 1, 2), (END, 1), (u64::MAX, 2), (0x4000_0000, 1)] {
        let outside = QueueError::Buffer { address, len };
        broken(PLAIN, |b| b.descriptor(DESC, 0, (address, len, 0, 0)), outside);
    }
    let backwards = |b: &mut Bench| {
        b.descriptor(DESC, 0, (DATA, 1, WRITE | NEXT, 1));
        b.descriptor(DESC, 1, (DATA, 1, 0, 0));
    };
    broken(PLAIN, backwards, QueueError::Order);
    let jump = QueueError::AvailableIndex { index: 6, next: 0, size: 4 };
    broken(PLAIN, |b| b.avail = 5, jump);
}

#[test]
fn each_wrong_indirect_descriptor_latches_its_error() {
    let wrong = |features, flags, len, what| {
        let set_up = |b: &mut Bench| b.descriptor(DESC, 0, (TABLE, len, flags, 0));
        broken(features, set_up, QueueError::Indirect(what));
    };
    wrong(PLAIN, INDIRECT, 16, "the feature was not negotiated");
    wrong(Features::RING, INDIRECT | NEXT, 16, "NEXT is set as well");
    wrong(Features::RING, INDIRECT, 0, "the table's length is not a multiple of 16");
    wrong(Features::RING, INDIRECT, 24, "the table's length is not a multiple of 16");
    wrong(Features::RING, INDIRECT, 16 << 16, "the table has more than 65535 entries");
    let nested = |b: &mut Bench| {
        b.descriptor(DESC, 0, (TABLE, 16, INDIRECT, 0));
        b.descriptor(TABLE, 0, (TABLE, 16, INDIRECT, 0));
    };
    broken(Features::RING, nested, QueueError::Indirect("a table inside a table"));
    let unmapped = |b: &mut Bench| b.descriptor(DESC, 0, (END, 16, INDIRECT, 0));
    broken(Features::RING, unmapped, QueueError::Buffer { address: END, len: 16 });
    let long = |b: &mut Bench| {
        b.descriptor(DESC, 0, (TABLE, 80, INDIRECT, 0));
        (0..5).for_each(|i| b.descriptor(TABLE, i, (DATA, 1, NEXT, i + 1)));
    };
    broken(Features::RING, long, QueueError::ChainLength(4));
}

#[test]
#[cfg_attr(miri, ignore = "Miri would fill the sparse region of 2 GiB with bytes")]
fn lengths_that_add_up_to_more_than_32_bits_latch() {
    // Two buffers of 2 GiB each need no memory behind them to be too long together, but the first is
    // looked up first: it must exist. A sparse region gives it.
    let regions = [(GuestAddress(0), 0x1_0000), (GuestAddress(1 << 32), 1 << 31)];
    let memory = vm_memory::GuestMemoryMmap::from_ranges(&regions).unwrap();
    let state = QueueState::default();
    let mut bench = Bench::with(memory.into(), params(4), PLAIN, state).unwrap();
    bench.descriptor(DESC, 0, (1 << 32, 1 << 31, NEXT, 1));
    bench.descriptor(DESC, 1, (1 << 32, 1 << 31, 0, 0));
    bench.offer(0);
    assert!(bench.queue.pop().is_none());
    assert_eq!(bench.queue.error(), Some(QueueError::TotalLength));
}

#[test]
fn descriptors_used_twice_at_once_cannot_fill_the_hosts_memory() {
    let mut bench = Bench::new(4, PLAIN);
    bench.descriptor(DESC, 0, (DATA, 1, 0, 0));
    let mut kept = vec![];
    for _ in 0..6 {
        bench.offer(0);
        bench.queue.drain(|chain| {
            kept.push(chain);
            Serve::Later
        });
    }
    assert_eq!(kept.len(), 4);
    assert_eq!(bench.queue.error(), Some(QueueError::InFlight(4)));
}
