//! A device that looks at its ring by itself asks for no kicks, and for one again before it sleeps.

use crate::bench::*;
use crate::hand::*;
use cubie_virtq::{Drained, Features, Serve};

const PLAIN: Features = Features::VERSION_1;
const EVENT_IDX: Features = PLAIN.with(Features::EVENT_IDX);
/// Flag of the used ring: no kicks.
const NO_NOTIFY: u16 = 1;

fn serve(bench: &mut Bench) -> Drained {
    bench.queue.drain(|chain| Serve::Done(chain, 0))
}

#[test]
fn a_split_ring_says_so_by_its_flag() {
    let mut bench = Bench::new(8, PLAIN);
    bench.descriptor(DESC, 0, (DATA, 1, 0, 0));
    assert_eq!((serve(&mut bench), bench.get16(USED)), (Drained::Empty, 0));
    bench.queue.want_kicks(false);
    for _ in 0..2 {
        assert!(!bench.queue.look_again());
        bench.offer(0);
        assert!(bench.queue.look_again(), "it finds what nobody has kicked for");
        assert_eq!((serve(&mut bench), bench.get16(USED)), (Drained::Empty, NO_NOTIFY));
    }
    bench.offer(0);
    bench.queue.want_kicks(true);
    assert!(bench.queue.look_again(), "what has come meanwhile is there");
    assert_eq!((serve(&mut bench), bench.get16(USED)), (Drained::Empty, 0));
}

#[test]
fn an_event_index_is_one_that_the_driver_has_passed() {
    let event = USED + 4 + 8 * 8;
    let mut bench = Bench::new(8, EVENT_IDX);
    bench.descriptor(DESC, 0, (DATA, 1, 0, 0));
    assert_eq!((serve(&mut bench), bench.get16(event)), (Drained::Empty, 0));
    bench.queue.want_kicks(false);
    for _ in 0..3 {
        bench.offer(0);
        assert_eq!((serve(&mut bench), bench.get16(event)), (Drained::Empty, 0xffff));
    }
    bench.queue.want_kicks(true);
    assert!(!bench.queue.look_again());
    assert_eq!(bench.get16(event), 3);
}

#[test]
fn a_packed_ring_says_so_in_its_word() {
    for (features, asks) in [(PLAIN, (0, ON)), (EVENT_IDX, (At(1, true).word(), THERE))] {
        let mut hand = Hand::new(8, features);
        assert!(hand.serve().is_empty());
        hand.bench.queue.want_kicks(false);
        assert_eq!(hand.asked().1, OFF);
        hand.offer(0, &[(DATA, 1, 0)]);
        assert!(hand.bench.queue.look_again());
        assert_eq!((hand.serve(), hand.asked().1), (vec![0], OFF));
        hand.bench.queue.want_kicks(true);
        assert!(!hand.bench.queue.look_again());
        assert_eq!(hand.asked(), asks);
    }
}

#[test]
fn what_is_wrong_with_a_ring_is_found_by_looking_as_well() {
    let mut bench = Bench::new(4, PLAIN);
    bench.queue.want_kicks(false);
    bench.avail = 5;
    bench.offer(0);
    assert!(!bench.queue.look_again() && bench.queue.error().is_some());
}
