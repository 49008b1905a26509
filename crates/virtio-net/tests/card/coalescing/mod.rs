//! Interrupts that wait for more to tell, in the time of a clock that stands still.

mod bench;
mod model;

use std::time::Duration;

use cubie_testkit::within;
use cubie_virtio_core::Features;

use crate::driver::{DEADLINE, ERR, OK};
use bench::{Bench, RECEIVE, RX_SET, TRANSMIT, TX_SET};

const USEC: Duration = Duration::from_micros(1);

#[test]
fn an_interrupt_waits_for_so_many_frames_or_for_so_long() {
    within(DEADLINE, || {
        let mut bench = Bench::new();
        for (set, queue) in [(RX_SET, RECEIVE), (TX_SET, TRANSMIT)] {
            assert_eq!(bench.pass(queue, 1), 1, "each is told at first");
            assert_eq!(bench.set(set, 15, 10), OK);
            assert_eq!(bench.pass(queue, 14), 0);
            assert_eq!(bench.pass(queue, 1), 1);
            assert_eq!((bench.pass(queue, 1), bench.wait(9 * USEC)), (0, 0));
            assert_eq!((bench.pass(queue, 1), bench.wait(USEC)), (0, 1), "since the first");
            assert_eq!(bench.wait(100 * USEC), 0);
            assert_eq!(bench.set(set, 0, 10), OK);
            assert_eq!(bench.pass(queue, 2), 1, "of a batch");
        }
    });
}

#[test]
fn a_driver_that_sleeps_is_woken_in_time() {
    within(DEADLINE, || {
        let mut bench = Bench::new();
        assert_eq!((bench.set(RX_SET, 15, 10), bench.set(TX_SET, 15, 10)), (OK, OK));
        for queue in [RECEIVE, TRANSMIT, RECEIVE, TRANSMIT] {
            assert_eq!(bench.pass(queue, 1), 0);
            assert_eq!(bench.sleep(10 * USEC), 1);
            // The timer is still set for frames that had not to wait for it.
            assert_eq!((bench.pass(queue, 14), bench.pass(queue, 1)), (0, 1));
            bench.clock.advance(5 * USEC);
            assert_eq!(bench.pass(queue, 1), 0);
            bench.clock.advance(5 * USEC);
            assert_eq!(bench.sleep(5 * USEC), 1);
        }
    });
}

#[test]
fn other_numbers_count_for_what_waits_already() {
    within(DEADLINE, || {
        let mut bench = Bench::new();
        for (packets, usecs) in [(8, 20), (20, 5), (0, 20), (20, 0)] {
            assert_eq!(bench.set(TX_SET, 15, 20), OK);
            assert_eq!(bench.pass(TRANSMIT, 10) + bench.wait(5 * USEC), 0);
            assert_eq!((bench.set(TX_SET, packets, usecs), bench.interrupts()), (OK, 1));
        }
        assert_eq!(bench.set(TX_SET, 15, 20), OK);
        assert_eq!(bench.pass(TRANSMIT, 10), 0);
        assert_eq!((bench.set(TX_SET, 20, 30), bench.wait(29 * USEC)), (OK, 0));
        assert_eq!(bench.wait(USEC), 1);
    });
}

#[test]
fn no_interrupt_waits_for_longer_than_a_second() {
    within(DEADLINE, || {
        let mut bench = Bench::new();
        assert_eq!(bench.set(RX_SET, u32::MAX, u32::MAX), OK);
        assert_eq!(bench.get(RECEIVE), Some([u32::MAX; 2]), "the driver reads what it has said");
        assert_eq!(bench.pass(RECEIVE, 1), 0);
        assert_eq!(bench.wait(Duration::from_secs(1)), 1);
    });
}

#[test]
fn a_driver_says_and_asks_how_long_those_of_one_queue_wait() {
    within(DEADLINE, || {
        let mut bench = Bench::new();
        assert_eq!(bench.set(RX_SET, 7, 8), OK);
        assert_eq!(bench.set_one(TRANSMIT, 5, 6), OK);
        assert_eq!([RECEIVE, TRANSMIT].map(|n| bench.get(n)), [Some([7, 8]), Some([5, 6])]);
        assert_eq!(bench.pass(TRANSMIT, 4) + bench.pass(RECEIVE, 6), 0);
        assert_eq!(bench.pass(TRANSMIT, 1) + bench.pass(RECEIVE, 1), 2);
        // The control queue, and none at all.
        for index in [2, 3, 0xffff] {
            assert_eq!((bench.set_one(index, 1, 1), bench.get(index)), (ERR, None));
        }
        assert_eq!(bench.driver.command(6, TX_SET, &[0; 7]), ERR);
    });
}

#[test]
fn a_queue_that_was_reset_begins_as_all_of_its_kind_and_what_waited_was_told() {
    within(DEADLINE, || {
        let mut bench = Bench::new();
        assert_eq!(bench.set(RX_SET, 3, 4), OK);
        assert_eq!(bench.set_one(RECEIVE, 10, 11), OK);
        assert_eq!(bench.set_one(TRANSMIT, 10, 11), OK);
        assert_eq!(bench.pass(TRANSMIT, 1), 0);
        bench.driver.raw.reset_queue(RECEIVE.into());
        assert_eq!(bench.interrupts(), 1, "nothing waits over a stop of the card");
        assert_eq!((bench.set_one(RECEIVE, 1, 1), bench.get(RECEIVE)), (ERR, None));
        bench.driver.raw.renew_queue(RECEIVE.into(), bench::SIZE);
        bench.settle();
        let numbers = [RECEIVE, TRANSMIT].map(|n| bench.get(n));
        assert_eq!(numbers, [Some([3, 4]), Some([10, 11])]);
        assert_eq!((bench.pass(RECEIVE, 2), bench.pass(RECEIVE, 1)), (0, 1));
    });
}

#[test]
fn a_snapshot_has_told_what_waited_and_goes_on_in_the_same_way() {
    within(DEADLINE, || {
        let mut bench = Bench::new();
        assert_eq!(bench.set(RX_SET, 3, 40), OK);
        assert_eq!(bench.set_one(TRANSMIT, 5, 60), OK);
        assert_eq!(bench.pass(TRANSMIT, 4) + bench.pass(RECEIVE, 2), 0);
        assert_eq!(bench.save_and_restore(), 2);
        let numbers = [RECEIVE, TRANSMIT].map(|n| bench.get(n));
        assert_eq!(numbers, [Some([3, 40]), Some([5, 60])]);
        assert_eq!((bench.pass(TRANSMIT, 4), bench.pass(TRANSMIT, 1)), (0, 1));
        assert_eq!((bench.pass(RECEIVE, 2), bench.wait(40 * USEC)), (0, 1));
    });
}

#[test]
fn the_next_driver_is_told_of_each_frame_until_it_says_otherwise() {
    within(DEADLINE, || {
        let mut bench = Bench::new();
        assert_eq!((bench.set(RX_SET, 9, 9), bench.set_one(TRANSMIT, 9, 9)), (OK, OK));
        bench.drive_anew();
        assert_eq!([RECEIVE, TRANSMIT].map(|n| bench.get(n)), [Some([0, 0]); 2]);
        assert_eq!((bench.pass(TRANSMIT, 1), bench.pass(RECEIVE, 1)), (1, 1));
    });
}

#[test]
fn a_pair_that_is_not_used_any_more_tells_what_waits_in_its_time() {
    within(DEADLINE, || {
        let mut bench = Bench::with_pairs(2);
        let use_pairs = |bench: &mut Bench, pairs| bench.driver.command(4, 0, &[pairs, 0]);
        assert_eq!((use_pairs(&mut bench, 2), bench.set(RX_SET, 9, 9)), (OK, OK));
        assert_eq!(bench.pass(2, 5), 0);
        assert_eq!((use_pairs(&mut bench, 1), bench.wait(8 * USEC)), (OK, 0));
        assert_eq!(bench.wait(USEC), 1);
    });
}

#[test]
fn a_driver_that_was_not_offered_it_cannot_say_so() {
    within(DEADLINE, || {
        let mut bench = Bench::of(1, Features::default());
        assert_eq!((bench.set(RX_SET, 1, 1), bench.set_one(RECEIVE, 1, 1)), (ERR, ERR));
        assert_eq!(bench.get(RECEIVE), None);
        assert_eq!((bench.pass(RECEIVE, 1), bench.pass(TRANSMIT, 1)), (1, 1));
    });
}
