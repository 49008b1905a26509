//! Pause and resume: stop, and start with the states that it returned. Without registers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cubie_virtio_core::{Features, QueueResources, QueueState, Queues, VirtioDevice};
use cubie_virtq::driver::DriverQueue;
use cubie_virtq::{OnFault, QueueParams};
use cubie_vm_irq::Interrupt;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::image::Image;
use super::{Make, ring_features};
use crate::Guest;
use crate::garbage::{Arena, Random};

/// Pauses for each choice of features.
const PAUSES: usize = 12;
/// Longest time that a device runs between two.
const RUN: Duration = Duration::from_micros(300);

/// A queue as the machine keeps it while its device is paused.
pub(super) struct Queue {
    index: u16,
    params: QueueParams,
    pub(super) state: QueueState,
    pub(super) kick: EventFd,
    pub(super) driver: DriverQueue,
    in_flight: HashSet<u16>,
    /// Chains that came back, modulo 2¹⁶.
    returned: u16,
}

impl Queue {
    /// One for each of the device's, of the largest size.
    pub(super) fn all(guest: &Guest, device: &dyn VirtioDevice, features: Features) -> Vec<Self> {
        let sizes = (0..).zip(device.queue_sizes());
        sizes.map(|(index, size)| Self::new(guest, index, *size, features)).collect()
    }

    fn new(guest: &Guest, index: u16, size: u16, features: Features) -> Self {
        let (_, bytes) = QueueParams::contiguous(0, size, features);
        let (params, _) = QueueParams::contiguous(guest.take_rings(bytes, 64), size, features);
        let driver = DriverQueue::new(guest.memory().clone(), params, features);
        Self {
            index,
            params,
            state: QueueState::fresh(features),
            kick: EventFd::new(EFD_NONBLOCK).expect("an eventfd for the kick"),
            driver: driver.expect("a size that a ring may have"),
            in_flight: HashSet::new(),
            returned: 0,
        }
    }

    fn resources(
        &self,
        memory: &Arc<GuestMemoryMmap>,
        features: Features,
        fault: OnFault,
    ) -> QueueResources {
        QueueResources {
            index: self.index,
            params: self.params,
            state: self.state,
            features,
            kick: self.kick.try_clone().expect("the same eventfd"),
            interrupt: Interrupt::silent(),
            fault,
            memory: memory.clone(),
        }
    }

    /// Makes a few chains of garbage available and kicks.
    fn offer(&mut self, arena: &Arena, random: &mut Random) {
        for _ in 0..8 {
            let Some(free @ 1..) = Some(self.driver.free()) else { break };
            let token = self.driver.add(&arena.chain(random, free)).expect("free descriptors");
            assert!(self.in_flight.insert(token), "a token twice");
        }
        self.driver.publish();
        self.kick.write(1).expect("room for a kick");
    }

    fn take_back(&mut self) {
        while let Some(used) = self.driver.pop_used() {
            assert!(self.in_flight.remove(&used.token), "chain {} came back twice", used.token);
            self.returned = self.returned.wrapping_add(1);
        }
        assert_eq!(self.driver.error(), None, "the device broke its ring");
    }

    /// What was taken was given back, and published.
    fn check_state(&self, features: Features) {
        let QueueState { next_avail, next_used } = self.state;
        assert_eq!(next_avail, next_used, "chains of queue {} are in flight", self.index);
        if !features.has(Features::PACKED) {
            assert_eq!(next_used, self.returned, "used entries of queue {}", self.index);
        }
    }
}

/// Nothing is lost, and nothing comes back twice, across pauses with all kinds of rings.
pub fn a_paused_device_goes_on_where_it_was(make: Make) {
    let guest = Guest::new();
    let mut random = Random(1);
    let arena = Arena::new(&guest, &mut random);
    for ring in ring_features() {
        let mut device = make();
        let features = ring.with(Features::VERSION_1).with(device.features());
        let mut queues = Queue::all(&guest, &*device, features);
        for _ in 0..PAUSES {
            start(&mut *device, &queues, guest.memory(), features, &OnFault::unheard());
            run(&mut queues, &arena, &mut random);
            pause(&mut *device, &mut queues, features);
        }
        check_still(&guest, &queues);
    }
}

/// Starts the device, which sees this memory, with the queues as they are.
pub(super) fn start(
    device: &mut dyn VirtioDevice,
    queues: &[Queue],
    memory: &Arc<GuestMemoryMmap>,
    features: Features,
    fault: &OnFault,
) {
    let parts = queues.iter().map(|queue| queue.resources(memory, features, fault.clone()));
    device.start(features, Queues::new(parts.collect())).expect("the device starts");
}

/// Offers and takes back for a while.
fn run(queues: &mut [Queue], arena: &Arena, random: &mut Random) {
    queues.iter_mut().for_each(|queue| queue.offer(arena, random));
    let (start, end) = (Instant::now(), RUN.mul_f64(random.below(100) as f64 / 100.0));
    while start.elapsed() < end {
        queues.iter_mut().for_each(Queue::take_back);
        std::thread::yield_now();
    }
}

fn pause(device: &mut dyn VirtioDevice, queues: &mut [Queue], features: Features) {
    let states = device.stop();
    assert_eq!(states.len(), queues.len(), "one state a queue");
    for (queue, state) in queues.iter_mut().zip(states) {
        queue.state = state;
        queue.take_back();
        queue.check_state(features);
    }
}

/// A paused device leaves memory alone, whoever kicks it.
fn check_still(guest: &Guest, queues: &[Queue]) {
    let then = Image::new(guest.memory());
    for queue in queues {
        queue.kick.write(1).expect("room for a kick");
        std::thread::yield_now();
    }
    then.check(guest.memory(), &[]);
}

/// A second stop returns no states, and so does one of a device that was never started.
pub fn stopping_what_does_not_run_does_nothing(make: Make) {
    let guest = Guest::new();
    let mut device = make();
    assert_eq!(device.stop(), [], "never started");
    let features = Features::VERSION_1;
    let queues = Queue::all(&guest, &*device, features);
    for _ in 0..2 {
        start(&mut *device, &queues, guest.memory(), features, &OnFault::unheard());
        assert_eq!(device.stop().len(), queues.len(), "one state a queue");
        assert_eq!(device.stop(), [], "stopped already");
    }
}
