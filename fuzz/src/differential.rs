//! Our split ring and rust-vmm's `virtio-queue` under the same guest, each with its own memory.

use std::ops::Range;

use cubie_virtq::{Features, OnFault, QueueError, QueueResources, QueueState, Segments, Virtqueue};
use cubie_vm_irq::Interrupt;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::driver::Driver;
use crate::guest::{AVAIL, DESC, Guest, REGIONS, USED};
use crate::machine::Outcome;
use crate::model::available_index;
use crate::script::{MOST_STEPS, Script, Start, Step};

/// Carries a script out on both.
///
/// # Panics
/// If they differ: see [`agree`] for what may.
pub fn compare(script: &Script) -> Outcome {
    let start = script.setup.start(Features::INDIRECT);
    if !start.well_placed {
        return Outcome { served: 0, error: None };
    }
    let (mut drivers, mut pair) = ([Driver::new(&start), Driver::new(&start)], Pair::new(&start));
    let mut served = 0;
    for step in script.steps.iter().take(MOST_STEPS) {
        let [ours, theirs] = &mut drivers;
        if ours.step(step, &mut pair.guest) && theirs.step(step, &mut pair.mirror) {
            continue;
        }
        if pair.takes_back() {
            break;
        }
        match step {
            Step::LookAgain => pair.look_again(),
            Step::Push(_, written) => served += usize::from(pair.serve(*written)),
            _ => served += usize::from(pair.serve(0)),
        }
        if pair.ours.error().is_some() {
            break;
        }
        assert_eq!(used_ring(&pair.guest, pair.size), used_ring(&pair.mirror, pair.size));
        let state =
            QueueState { next_avail: pair.theirs.next_avail(), next_used: pair.theirs.next_used() };
        assert_eq!(pair.ours.state(), state);
    }
    Outcome { served, error: pair.ours.error() }
}

struct Pair {
    guest: Guest,
    mirror: Guest,
    ours: Virtqueue,
    theirs: Queue,
    interrupt: EventFd,
    size: u16,
    /// The available index as ours has last read it.
    seen: u16,
}

impl Pair {
    fn new(start: &Start) -> Self {
        let (guest, mirror) = (Guest::new(), Guest::new());
        let eventfd = || EventFd::new(EFD_NONBLOCK).expect("an eventfd");
        let interrupt = eventfd();
        let ours = Virtqueue::new(QueueResources {
            index: 0,
            params: start.params,
            state: start.state,
            features: start.features,
            kick: eventfd(),
            interrupt: Interrupt::new(interrupt.try_clone().expect("an eventfd")),
            fault: OnFault::unheard(),
            memory: guest.memory().clone(),
        });
        let size = start.params.size;
        let ours = ours.expect("a well-placed ring");
        let seen = start.state.next_avail;
        Self { guest, mirror, ours, theirs: theirs(start), interrupt, size, seen }
    }

    /// Takes one chain on both sides, compares them, and completes it. True if there was one.
    fn serve(&mut self, written: u32) -> bool {
        let memory: &GuestMemoryMmap = self.mirror.memory();
        let theirs = match self.theirs.iter(memory) {
            Ok(mut available) => available.next(),
            Err(error) => {
                assert!(self.ours.pop().is_none());
                let ours = self.ours.error();
                assert!(matches!(ours, Some(QueueError::AvailableIndex { .. })), "{error}");
                return false;
            }
        };
        let Some(theirs) = theirs else {
            assert!(self.ours.pop().is_none() && self.ours.error().is_none());
            return false;
        };
        let head = theirs.head_index();
        let descriptors: Vec<_> = theirs.collect();
        let Some(mut chain) = self.ours.pop() else {
            let error = self.ours.error().expect("a chain is there, and none is taken");
            assert!(has_reason(error, &descriptors, self.size), "{error}: {descriptors:?}");
            return false;
        };
        assert_eq!(chain.head(), head);
        agree(&chain.readable(), &descriptors, false, &self.guest);
        agree(&chain.writable(), &descriptors, true, &self.guest);
        assert!(!cut_short(&descriptors) && !out_of_order(&descriptors), "{descriptors:?}");
        self.ours.push(chain, written);
        self.ours.signal();
        self.theirs.add_used(memory, head, written).expect("a head in the table");
        let interrupt = self.theirs.needs_notification(memory).expect("the ring is in memory");
        // Without event index, theirs always interrupts: see tests/rings.
        if self.theirs.event_idx_enabled() {
            assert_eq!(self.interrupt.read().is_ok(), interrupt);
        }
        true
    }

    fn look_again(&mut self) {
        let theirs = self.theirs.enable_notification(&**self.mirror.memory());
        let ours = self.ours.look_again();
        self.seen = available_index(&self.guest);
        if self.ours.error().is_none() {
            assert_eq!(ours, theirs.expect("the ring is in memory"));
        }
    }

    /// True if the driver has taken back an index that ours has read. Ours serves up to what it has
    /// read before it looks again, theirs looks for each chain: so they may part here.
    fn takes_back(&mut self) -> bool {
        let index = available_index(&self.guest);
        let next = self.ours.state().next_avail;
        if self.seen == next {
            self.seen = index;
        }
        let (seen, there) = (self.seen.wrapping_sub(next), index.wrapping_sub(next));
        there < seen || (seen <= self.size && there > self.size)
    }
}

/// What the device has written.
fn used_ring(guest: &Guest, size: u16) -> Vec<u8> {
    let mut bytes = vec![0; 6 + 8 * usize::from(size)];
    guest.memory().read_slice(&mut bytes, GuestAddress(USED)).expect("well placed");
    bytes
}

fn theirs(start: &Start) -> Queue {
    let mut queue = Queue::new(start.params.size).expect("a size");
    queue.set_size(start.params.size);
    queue.set_desc_table_address(Some(DESC as u32), Some(0));
    queue.set_avail_ring_address(Some(AVAIL as u32), Some(0));
    queue.set_used_ring_address(Some(USED as u32), Some(0));
    queue.set_event_idx(start.features.has(Features::EVENT_IDX));
    queue.set_next_avail(start.state.next_avail);
    queue.set_next_used(start.state.next_used);
    queue.set_ready(true);
    queue
}

/// Checks that our segments are exactly the memory of their descriptors, one way.
fn agree(segments: &Segments, descriptors: &[Descriptor], writable: bool, guest: &Guest) {
    let ours = segments.iovecs().iter().map(|piece| {
        let at = guest.place_of_host(piece.iov_base.addr(), piece.iov_len);
        at..at + piece.iov_len
    });
    let theirs = descriptors.iter().filter(|d| d.is_write_only() == writable);
    let theirs = theirs.flat_map(|d| pieces(d.addr().0, d.len()).expect("we have found it"));
    assert!(ours.eq(theirs), "{segments:?}: {descriptors:?}");
}

/// The pieces of a buffer in the copy of memory; `None` if not all of it exists.
fn pieces(mut address: u64, len: u32) -> Option<Vec<Range<usize>>> {
    let mut left = len as usize;
    let mut pieces = vec![];
    while left > 0 {
        let mut base = 0;
        let found = REGIONS.iter().find_map(|(first, size)| {
            let offset = address.checked_sub(*first).filter(|offset| *offset < *size as u64);
            base += size;
            offset.map(|offset| (base - size + offset as usize, size - offset as usize))
        });
        let (at, there) = found?;
        let here = left.min(there);
        pieces.push(at..at + here);
        left -= here;
        address = address.checked_add(here as u64)?;
    }
    Some(pieces)
}

/// True if their walk has ended where the chain does not.
fn cut_short(descriptors: &[Descriptor]) -> bool {
    descriptors.last().is_none_or(Descriptor::has_next)
}

/// True if a readable buffer follows a writable one that is not empty.
fn out_of_order(descriptors: &[Descriptor]) -> bool {
    let mut behind = descriptors.iter().skip_while(|d| !d.is_write_only() || d.len() == 0);
    behind.any(|d| !d.is_write_only())
}

/// True if their walk shows why we have refused the chain.
fn has_reason(error: QueueError, descriptors: &[Descriptor], size: u16) -> bool {
    let cut_short = cut_short(descriptors);
    match error {
        QueueError::DescriptorIndex { .. } | QueueError::TotalLength => cut_short,
        // Their bound inside of an indirect table is the table's length.
        QueueError::ChainLength(_) => cut_short || descriptors.len() > size.into(),
        QueueError::Order => out_of_order(descriptors),
        // All of it must exist, also what they would not have looked at: behind the last descriptor that
        // is used of an indirect table.
        QueueError::Buffer { address, len } => pieces(address, len).is_none(),
        // They pass over NEXT beside INDIRECT.
        QueueError::Indirect(what) => cut_short || what.starts_with("NEXT"),
        _ => false,
    }
}
