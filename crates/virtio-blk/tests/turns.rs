//! A disk that has a lot to do lets other events in: it can still be stopped.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RawDriver, Used, within};
use cubie_virtio_blk::{Blk, BlockBackend, Completion, MemoryDisk, Request};
use cubie_virtio_core::Features;
use vm_memory::{Address, Bytes};

const DEADLINE: Duration = Duration::from_secs(20);
const FLUSH_FEATURE: u32 = 9;
const SIZE: usize = 1 << 20;
const REQUESTS: usize = 80;

const READ: u8 = 0;
const WRITE: u8 = 1;
const FLUSH: u8 = 4;

/// Counts the requests of each turn.
struct Counting {
    disk: MemoryDisk,
    turns: Arc<Mutex<Vec<usize>>>,
}

impl BlockBackend for Counting {
    fn size(&self) -> u64 {
        self.disk.size()
    }
    fn submit(&mut self, request: Request) -> Option<Completion> {
        *self.turns.lock().unwrap().last_mut().unwrap() += 1;
        self.disk.submit(request)
    }
    fn start(&mut self) {
        self.turns.lock().unwrap().push(0);
    }
}

/// The most requests that one turn serves, of many of this kind that are all there when it begins.
fn most_in_a_turn(kind: u8, payload: &[Descriptor], features: Features) -> usize {
    let payload = payload.to_vec();
    within(DEADLINE, move || {
        let turns = Arc::new(Mutex::new(vec![0]));
        let backend = Counting { disk: MemoryDisk::new(vec![0; SIZE]), turns: turns.clone() };
        let guest = Guest::new();
        let slot = guest.plug(Box::new(Blk::new(backend, "counting".parse().unwrap())));
        let mut driver = RawDriver::new(&slot, features, &[256]);
        // The turn at the start finds nothing; the next one finds all.
        while turns.lock().unwrap().len() < 2 {
            thread::yield_now();
        }
        let page = guest.buffer(SIZE + 512);
        guest.memory().write_obj([kind, 0, 0, 0, 0, 0, 0, 0], page).unwrap();
        let payload = payload.iter().map(|at| Descriptor { address: page.0 + 512, ..*at });
        let status = Descriptor::writable(page.0 + 16, 1);
        let mut chain = vec![Descriptor::readable(page.0, 16)];
        chain.extend(payload.chain([status]));
        let heads = [(); REQUESTS].map(|()| driver.add(0, &chain));
        driver.kick(0);
        for head in heads {
            let Used { head: used, .. } = driver.wait_used(0, DEADLINE);
            assert_eq!(used, u32::from(head));
            assert_eq!(guest.memory().read_obj::<u8>(page.unchecked_add(16)).unwrap(), 0);
        }
        turns.lock().unwrap().iter().copied().max().unwrap()
    })
}

#[test]
fn more_payload_than_one_turn_serves_is_served_in_the_next() {
    let room = Descriptor::writable(0, SIZE as u32);
    assert!(most_in_a_turn(READ, &[room], Features::default()) <= 16);
}

#[test]
fn more_flushes_than_one_turn_serves_are_served_in_the_next() {
    assert!(most_in_a_turn(FLUSH, &[], Features::bit(FLUSH_FEATURE)) <= 16);
}

#[test]
fn writes_that_go_through_count_as_flushes() {
    let data = Descriptor::readable(0, 512);
    assert!(most_in_a_turn(WRITE, &[data], Features::default()) <= 16);
    let cached = most_in_a_turn(WRITE, &[data], Features::bit(FLUSH_FEATURE));
    assert!(cached > 16, "{cached}");
}
