//! A device, its driver's end of the queues, and the memory between them with its copy.

use std::collections::VecDeque;
use std::ops::Range;

use cubie_virtio_core::{
    Features, OnFault, QueueResources, QueueState, Queues, VirtioDevice, serve_at_start,
};
use cubie_virtq::QueueParams;
use cubie_virtq::driver::{Buffer, DriverQueue};
use cubie_vm_irq::Interrupt;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{DATA_LEN, MOST_BUFFERS};
use crate::guest::{DATA, Guest};

/// Descriptors of each queue.
const SIZE: u16 = 32;
/// Where the queues lie, and the tables of their chains.
const PLACES: [u64; 2] = [0x100, 0x600];
const TABLES: u64 = 0xb00;
const TABLE_LEN: u64 = 0x200;
/// Turns without an end in sight.
const MOST_TURNS: usize = 100;

pub(super) struct Rig<D> {
    pub(super) device: D,
    pub(super) guest: Guest,
    features: Features,
    queues: Vec<Queue>,
    /// What the device may write by itself.
    rings: Range<usize>,
}

struct Queue {
    driver: DriverQueue,
    params: QueueParams,
    state: QueueState,
    /// In the order in which the device gets them.
    offered: VecDeque<(u16, Chain)>,
}

/// A chain that the driver has made.
#[derive(Clone, Debug)]
pub(super) struct Chain(Vec<Buffer>);

/// A chain that has come back, and the bytes that are said to be written.
pub(super) struct Used {
    pub(super) chain: Chain,
    pub(super) written: u32,
}

impl<D: VirtioDevice> Rig<D> {
    /// A device that is about to be started with these features and its first `count` queues. What the driver
    /// can offer is full of noise.
    pub(super) fn new(device: D, count: usize, features: Features) -> Self {
        let mut guest = Guest::new();
        let noise = (0..DATA_LEN as u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8);
        guest.write(DATA, &noise.collect::<Vec<_>>());
        let queues: Vec<_> = PLACES[..count]
            .iter()
            .map(|place| {
                let (params, len) = QueueParams::contiguous(*place, SIZE, features);
                assert!(place + len <= TABLES);
                let driver = DriverQueue::new(guest.memory().clone(), params, features);
                let state = QueueState::fresh(features);
                let driver = driver.expect("a well-placed ring");
                Queue { driver, params, state, offered: VecDeque::new() }
            })
            .collect();
        // Both ends of the rings are the driver's and the device's own affair: see the other targets.
        let len = (DATA - PLACES[0]) as usize;
        let rings = guest.place(PLACES[0], len).map(|at| at..at + len).expect("memory");
        Self { device, guest, features, queues, rings }
    }

    /// Makes a chain available to queue `index`. False when there is no place for it.
    pub(super) fn offer(&mut self, index: usize, mut buffers: Vec<Buffer>) -> bool {
        buffers.truncate(MOST_BUFFERS);
        let queue = &mut self.queues[index];
        let token = match self.features.has(Features::INDIRECT) && buffers.len() > 1 {
            // There is one table a queue: others would have to wait until the device has read it.
            true if queue.offered.is_empty() => {
                queue.driver.add_indirect(&buffers, TABLES + index as u64 * TABLE_LEN)
            }
            _ => queue.driver.add(&buffers),
        };
        let Some(token) = token else { return false };
        queue.offered.push_back((token, Chain(buffers)));
        true
    }

    /// Starts the device, lets it serve what is there, and stops it.
    ///
    /// # Panics
    /// If it does not start, breaks a ring, or finds one broken.
    pub(super) fn turn(&mut self) {
        let resources = (0..).zip(&mut self.queues).map(|(index, queue)| {
            queue.driver.publish();
            QueueResources {
                index,
                params: queue.params,
                state: queue.state,
                features: self.features,
                kick: EventFd::new(EFD_NONBLOCK).expect("an eventfd"),
                interrupt: Interrupt::silent(),
                fault: OnFault::new(|queue, error| panic!("queue {queue}: {error}")),
                memory: self.guest.memory().clone(),
            }
        });
        let queues = Queues::new(resources.collect());
        let started = serve_at_start(|| self.device.start(self.features, queues));
        started.expect("queues that are all there");
        let states = self.device.stop();
        assert!(states.len() >= self.queues.len());
        for (queue, state) in self.queues.iter_mut().zip(states) {
            queue.state = state;
        }
    }

    /// The chains of queue `index` that have come back, in the order in which the device got them.
    ///
    /// # Panics
    /// If one has come back that was not the device's, or before one that it had got earlier.
    pub(super) fn used(&mut self, index: usize) -> Vec<Used> {
        let queue = &mut self.queues[index];
        let mut returned = vec![];
        while let Some(used) = queue.driver.pop_used() {
            returned.push(used);
        }
        assert_eq!(queue.driver.error(), None);
        let taken: Vec<_> = queue.offered.drain(..returned.len()).collect();
        let back = taken.into_iter().map(|(token, chain)| {
            let at = returned.iter().position(|used| used.token == token);
            let at = at.expect("no chain is passed over when the device is stopped");
            Used { chain, written: returned.swap_remove(at).written }
        });
        back.collect()
    }

    /// Chains that the device has not given back.
    pub(super) fn left(&self, index: usize) -> usize {
        self.queues[index].offered.len()
    }

    /// The next chain that the device has to give back.
    pub(super) fn next(&self, index: usize) -> Option<&Chain> {
        self.queues[index].offered.front().map(|(_, chain)| chain)
    }

    /// The device has not taken anything of queue `index`.
    pub(super) fn is_fresh(&self, index: usize) -> bool {
        self.queues[index].state == QueueState::fresh(self.features)
    }

    /// Compares the driver's memory with what the model has made of its copy.
    ///
    /// # Panics
    /// If they differ.
    pub(super) fn check(&mut self) {
        self.guest.check(std::slice::from_ref(&self.rings));
    }
}

/// Repeats `turn` until it says that there is nothing left.
///
/// # Panics
/// If it never does.
pub(super) fn until_done(mut turn: impl FnMut() -> bool) {
    let turns = (0..MOST_TURNS).take_while(|_| !turn()).count();
    assert!(turns < MOST_TURNS, "the device does not come to an end");
}

impl Chain {
    /// All that the device can read.
    pub(super) fn readable(&self, guest: &Guest) -> Vec<u8> {
        let spans = self.spans(false, guest);
        spans.into_iter().flat_map(|span| &guest.copy()[span]).copied().collect()
    }

    /// Bytes that the device can write.
    pub(super) fn room(&self) -> usize {
        self.0.iter().filter(|buffer| buffer.writable).map(|buffer| buffer.len as usize).sum()
    }

    /// Writes to the copy, `skip` bytes behind the front of what the device can write.
    pub(super) fn expect(&self, skip: usize, bytes: &[u8], guest: &mut Guest) {
        let spans = self.spans(true, guest);
        let places: Vec<_> = spans.into_iter().flatten().skip(skip).take(bytes.len()).collect();
        assert_eq!(places.len(), bytes.len(), "the model writes within the chain");
        for (at, byte) in places.into_iter().zip(bytes) {
            guest.copy_mut()[at] = *byte;
        }
    }

    fn spans(&self, writable: bool, guest: &Guest) -> Vec<Range<usize>> {
        let buffers = self.0.iter().filter(|buffer| buffer.writable == writable && buffer.len > 0);
        let mut spans = vec![];
        for buffer in buffers {
            // A buffer may cross the border of two regions, which are neighbours in the copy as well.
            let at = guest.place(buffer.address, 1).expect("buffers are in memory");
            spans.push(at..at + buffer.len as usize);
        }
        spans
    }
}
