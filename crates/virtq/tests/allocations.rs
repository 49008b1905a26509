//! Nothing is allocated between kick and interrupt, once a queue has seen its largest chains.

use std::sync::Arc;

use cubie_virtq::{
    Chain, Drained, Features, OnFault, QueueParams, QueueResources, QueueState, Room, Serve,
    Virtqueue,
};
use cubie_vm_irq::Interrupt;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const SIZE: u16 = 16;
const PARAMS: QueueParams =
    QueueParams { size: SIZE, desc: 0x1000, driver: 0x2000, device: 0x3000 };
/// Indirect tables lie here; the second one across the seam of the two regions.
const TABLE: u64 = 0x4000;
const SEAM: u64 = 0x1_0000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

struct Driver {
    memory: Arc<GuestMemoryMmap>,
    features: Features,
    made: u16,
}

impl Driver {
    fn store(&self, at: u64, value: u64) {
        self.memory.write_obj(value.to_le(), GuestAddress(at)).unwrap();
    }

    /// Descriptor `index` of `table`, with what follows it, or in a packed ring its id.
    fn descriptor(
        &self,
        table: u64,
        index: u16,
        (address, len, flags, link): (u64, u32, u16, u16),
    ) {
        let packed = self.features.has(Features::PACKED);
        let (third, fourth) = if packed { (link, flags) } else { (flags, link) };
        let at = table + 16 * u64::from(index);
        self.store(at, address);
        self.store(at + 8, u64::from(len) | u64::from(third) << 32 | u64::from(fourth) << 48);
    }

    /// Offers two descriptors, as one chain or as two tables, and says so.
    fn offer(&mut self, indirect: bool) {
        let (first, second) = (self.made % SIZE, self.made % SIZE + 1);
        let round = (self.made / SIZE).is_multiple_of(2);
        let packed = self.features.has(Features::PACKED);
        let bits = if !packed {
            0
        } else if round {
            1 << 7
        } else {
            1 << 15
        };
        let links = if packed { (first, first) } else { (second, 0) };
        let (head, tail) = if indirect {
            for table in [TABLE, SEAM - 16] {
                let next = if packed { 0 } else { NEXT };
                self.descriptor(table, 0, (0x8000, 8, next, 1));
                self.descriptor(table, 1, (SEAM - 4, 8, WRITE, 0));
            }
            ((TABLE, 32, INDIRECT, first), (SEAM - 16, 32, INDIRECT, second))
        } else {
            ((0x8000, 8, NEXT, links.0), (SEAM - 4, 8, WRITE, links.1))
        };
        self.descriptor(PARAMS.desc, second, (tail.0, tail.1, tail.2 | bits, tail.3));
        self.descriptor(PARAMS.desc, first, (head.0, head.1, head.2 | bits, head.3));
        self.made = self.made.wrapping_add(2);
        if !packed {
            self.available(&[first, second][..if indirect { 2 } else { 1 }]);
        }
    }

    fn available(&self, heads: &[u16]) {
        let index = GuestAddress(PARAMS.driver + 2);
        let mut next: u16 = self.memory.read_obj(index).unwrap();
        for head in heads {
            let slot = PARAMS.driver + 4 + 2 * u64::from(next % SIZE);
            self.memory.write_obj(head.to_le(), GuestAddress(slot)).unwrap();
            next = next.wrapping_add(1);
        }
        self.memory.write_obj(next, index).unwrap();
    }
}

fn machine(features: Features) -> (Driver, Virtqueue) {
    let regions = [(GuestAddress(0), SEAM as usize), (GuestAddress(SEAM), SEAM as usize)];
    let memory = Arc::new(GuestMemoryMmap::from_ranges(&regions).unwrap());
    let queue = Virtqueue::new(QueueResources {
        index: 0,
        params: PARAMS,
        state: QueueState::fresh(features),
        features,
        kick: EventFd::new(EFD_NONBLOCK).unwrap(),
        interrupt: Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap()),
        fault: OnFault::unheard(),
        memory: memory.clone(),
    });
    (Driver { memory, features, made: 0 }, queue.unwrap())
}

/// A round: `chains` offered, half of them served at once, the others kept and completed backwards.
fn round(driver: &mut Driver, queue: &mut Virtqueue, indirect: bool, kept: &mut Vec<Chain>) -> u32 {
    (0..SIZE / 2).for_each(|_| driver.offer(indirect));
    let mut served = 0;
    let end = queue.drain(|mut chain| {
        served += 1;
        assert_eq!((chain.readable().len(), chain.writable().len()), (8, 8));
        assert!(chain.reserve_header(4) && chain.reserve_status());
        if served % 2 == 0 {
            kept.push(chain);
            return Serve::Later;
        }
        Serve::Done(chain, 8)
    });
    assert_eq!(end, Drained::Empty);
    while let Some(chain) = kept.pop() {
        queue.push(chain, 4);
    }
    queue.signal();
    served
}

#[test]
#[cfg_attr(miri, ignore = "what it does is in tests/rings too, and a count is the same there")]
fn the_steady_state_allocates_nothing() {
    for ring in [Features::VERSION_1, Features::PACKED] {
        for order in [Features::VERSION_1, Features::IN_ORDER] {
            for indirect in [false, true] {
                let features = ring.with(order).with(Features::RING);
                let (mut driver, mut queue) = machine(features);
                let mut kept = Vec::with_capacity(SIZE.into());
                for _ in 0..2 {
                    round(&mut driver, &mut queue, indirect, &mut kept);
                }
                let mut served = 0;
                let counted = allocation_counter::measure(|| {
                    for _ in 0..20 {
                        served += round(&mut driver, &mut queue, indirect, &mut kept);
                    }
                });
                let chains = u32::from(SIZE) / if indirect { 1 } else { 2 };
                assert_eq!(served, 20 * chains, "{features:x?}");
                assert_eq!(counted.count_total, 0, "{features:x?}, indirect: {indirect}");
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "a count is the same there")]
fn a_room_of_several_chains_allocates_nothing() {
    let (mut driver, mut queue) = machine(Features::RING);
    let mut room = Room::default();
    let mut round = || {
        (0..SIZE / 2).for_each(|_| driver.offer(false));
        room.fill(&mut queue, usize::MAX, usize::MAX);
        room.give_back(&mut queue);
        room.fill(&mut queue, usize::MAX, usize::MAX);
        let mut used = 0;
        while let Some(mut rest) = room.lend(12) {
            assert_eq!(rest.write(&[2; 20]), 20);
            assert_eq!(room.header().write(&[1; 12]), 12);
            assert_eq!(room.peek(12, &mut [0; 8]), 8);
            used += room.push(&mut queue, 32);
        }
        queue.signal();
        used
    };
    round();
    let counted = allocation_counter::measure(|| {
        (0..20).for_each(|_| assert_eq!(round(), usize::from(SIZE / 2)));
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn the_counter_counts() {
    let counted = allocation_counter::measure(|| drop(machine(Features::PACKED)));
    assert!(counted.count_total > 0);
}
