//! Interrupts that wait for more to tell.

use std::num::NonZeroU32;

use crate::bench::*;
use crate::hand::*;
use cubie_virtq::{Features, Room, Serve, Virtqueue};

const PLAIN: Features = Features::VERSION_1;
const EVENT_IDX: Features = PLAIN.with(Features::EVENT_IDX);

fn hold(queue: &mut Virtqueue, until: u32) {
    queue.hold_interrupts(NonZeroU32::new(until));
}

/// A driver offers a chain, and the device uses it. The interrupts that come of it.
fn serve(bench: &mut Bench) -> u64 {
    bench.descriptor(DESC, 0, (DATA, 1, 0, 0));
    bench.offer(0);
    bench.queue.drain(|chain| Serve::Done(chain, 0));
    bench.interrupts()
}

#[test]
fn an_interrupt_waits_for_so_many_chains_which_the_driver_sees_before() {
    let mut bench = Bench::new(16, PLAIN);
    hold(&mut bench.queue, 3);
    for round in 0..4 {
        let waiting = [(); 2].map(|()| (serve(&mut bench), bench.queue.untold()));
        assert_eq!(waiting, [(0, Some(round)); 2]);
        assert_eq!(bench.get16(USED + 2), 3 * round as u16 + 2);
        assert_eq!((serve(&mut bench), bench.queue.untold()), (1, None));
    }
}

#[test]
fn what_waits_is_told_on_request_and_when_less_may_wait_but_only_then() {
    let mut bench = Bench::new(16, PLAIN);
    hold(&mut bench.queue, 5);
    assert_eq!(serve(&mut bench) + serve(&mut bench), 0);
    bench.queue.tell();
    assert_eq!((bench.interrupts(), bench.queue.untold()), (1, None));
    assert_eq!(serve(&mut bench) + serve(&mut bench), 0);
    hold(&mut bench.queue, 3);
    assert_eq!(bench.interrupts(), 0);
    hold(&mut bench.queue, 2);
    assert_eq!(bench.interrupts(), 1);
    assert_eq!(serve(&mut bench), 0);
    hold(&mut bench.queue, 0);
    assert_eq!((bench.interrupts(), serve(&mut bench)), (1, 1), "each is told again");
    hold(&mut bench.queue, 0);
    assert_eq!(bench.interrupts(), 0);
}

#[test]
fn half_a_ring_does_not_wait() {
    let mut bench = Bench::new(8, PLAIN);
    hold(&mut bench.queue, u32::MAX);
    let interrupts: Vec<_> = (0..9).map(|_| serve(&mut bench)).collect();
    assert_eq!(interrupts, [0, 0, 0, 1, 0, 0, 0, 1, 0]);
}

#[test]
fn half_of_the_descriptors_do_not_wait_however_long_the_chains() {
    let tables = PLAIN.with(Features::INDIRECT);
    for (features, chain, interrupts) in [
        (PLAIN, 3, [0, 0, 1, 0, 0, 1]),
        (tables, 3, [0, 0, 1, 0, 0, 1]),
        (PLAIN.with(Features::IN_ORDER), 4, [0, 1, 0, 1, 0, 1]),
    ] {
        let mut bench = Bench::new(16, features);
        hold(&mut bench.queue, u32::MAX);
        let serve = |_| {
            for at in 0..chain {
                let flags = if at + 1 < chain { NEXT } else { 0 };
                bench.descriptor(DESC, at, (DATA, 1, flags, at + 1));
            }
            bench.offer(0);
            bench.queue.drain(|chain| Serve::Done(chain, 0));
            bench.interrupts()
        };
        assert_eq!([(); 6].map(serve), interrupts, "{features:?}");
    }
    // A table of its own takes up one.
    let mut bench = Bench::new(8, tables);
    hold(&mut bench.queue, u32::MAX);
    let serve = |_| {
        bench.descriptor(TABLE, 0, (DATA, 1, NEXT, 1));
        bench.descriptor(TABLE, 1, (DATA, 1, 0, 0));
        bench.descriptor(DESC, 0, (TABLE, 32, INDIRECT, 0));
        bench.offer(0);
        bench.queue.drain(|chain| Serve::Done(chain, 0));
        bench.interrupts()
    };
    assert_eq!([(); 4].map(serve), [0, 0, 0, 1]);
}

#[test]
fn a_driver_that_wants_no_interrupt_gets_none_when_the_time_has_come() {
    let mut bench = Bench::new(16, PLAIN);
    hold(&mut bench.queue, 2);
    bench.set16(AVAIL, 1);
    assert_eq!((serve(&mut bench), serve(&mut bench), bench.queue.untold()), (0, 0, None));
    assert_eq!(serve(&mut bench), 0);
    bench.set16(AVAIL, 0);
    assert_eq!(serve(&mut bench), 1, "it has changed its mind meanwhile");
}

#[test]
fn an_event_index_is_looked_at_when_the_time_has_come_for_all_that_waited() {
    let event = AVAIL + 4 + 2 * 16;
    for (wanted, interrupts) in [(0, 1), (1, 1), (2, 1), (3, 0), (0xffff, 0)] {
        let mut bench = Bench::new(16, EVENT_IDX);
        hold(&mut bench.queue, 3);
        bench.set16(event, 0xffff);
        assert_eq!(serve(&mut bench) + serve(&mut bench), 0);
        bench.set16(event, wanted);
        assert_eq!(serve(&mut bench), interrupts, "for entry {wanted}");
    }
}

#[test]
fn in_a_packed_ring_it_is_the_same() {
    for (place, interrupts) in [(0, 1), (2, 1), (3, 0)] {
        let mut hand = Hand::new(16, EVENT_IDX);
        hold(&mut hand.bench.queue, 3);
        hand.wish(At(place, true).word(), THERE);
        for n in 0..3 {
            assert_eq!(hand.bench.interrupts(), 0);
            hand.offer(n, &[(DATA, 1, 0)]);
            hand.bench.queue.drain(|chain| Serve::Done(chain, 0));
        }
        assert_eq!(hand.bench.interrupts(), interrupts, "at place {place}");
    }
}

#[test]
fn a_packet_in_several_chains_is_one() {
    for features in [PLAIN, PLAIN.with(Features::IN_ORDER)] {
        let mut bench = Bench::new(32, features);
        hold(&mut bench.queue, 2);
        let mut room = Room::default();
        for interrupts in [0, 1, 0, 1] {
            for head in 0..3 {
                bench.descriptor(DESC, head, (DATA, 4, WRITE, 0));
                bench.offer(head);
            }
            room.fill(&mut bench.queue, 12, usize::MAX);
            room.lend(0).unwrap();
            assert_eq!(room.push(&mut bench.queue, 12), 3);
            bench.queue.signal();
            assert_eq!(bench.interrupts(), interrupts);
        }
    }
}
