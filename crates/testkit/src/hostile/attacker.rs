//! The driver, which is good and bad by turns.

use cubie_virtio_core::Features;
use virtio_bindings::virtio_mmio::*;
use virtio_drivers::transport::{DeviceStatus, Transport};

use super::pace::Pace;
use super::step::{Begin, Step};
use super::target::Target;
use crate::garbage::Random;
use crate::{RawDriver, Slot};

/// Looks at a used ring in which there is nothing yet.
const MOMENT: usize = 20;
/// QueueReset, which virtio-bindings does not know yet (VIRTIO 1.4 §4.2.2).
const QUEUE_RESET: u32 = 0xc0;
/// What shapes a ring, by the bits of [`Begin::rings`].
const RINGS: [Features; 4] =
    [Features::PACKED, Features::EVENT_IDX, Features::INDIRECT, Features::IN_ORDER];
/// A device that says so wants a reset, or its driver has given it up.
const BROKEN: DeviceStatus = DeviceStatus::DEVICE_NEEDS_RESET.union(DeviceStatus::FAILED);

/// What the device has given back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Back {
    /// Chains,
    pub(super) chains: u64,
    /// and those of them that it has written to.
    pub(super) written: u64,
}

pub(super) struct Attacker<'a> {
    slot: &'a Slot,
    target: &'a Target,
    pace: &'a Pace,
    /// The largest queues that the device has,
    sizes: &'a [u16],
    /// and its features.
    own: Features,
    driver: RawDriver,
    begin: Begin,
    back: Back,
}

impl<'a> Attacker<'a> {
    pub(super) fn new(
        slot: &'a Slot,
        target: &'a Target,
        pace: &'a Pace,
        (sizes, own): (&'a [u16], Features),
        begin: Begin,
    ) -> Self {
        let driver = RawDriver::new(slot, features(begin, own), &queue_sizes(begin, sizes));
        let this = Self { slot, target, pace, sizes, own, driver, begin, back: Back::default() };
        this.aim();
        this
    }

    pub(super) fn take(&mut self, step: Step) {
        self.pace.step();
        let count = self.sizes.len();
        let nth = |queue: u8| usize::from(queue) % count;
        match step {
            Step::Start(begin) => self.start(begin),
            Step::Poke(poke) => self.target.hit(self.slot.guest(), [&poke]),
            Step::Write { offset, value, width } => {
                let bytes = u64::from(value).to_le_bytes();
                self.driver.transport().write_bytes(offset.into(), &bytes[..width]);
            }
            Step::Read { offset, width } => {
                self.driver.transport().read_bytes(offset.into(), &mut [0; 8][..width]);
            }
            _ if count == 0 => {}
            Step::Offer { queue, garbage, indirect } => {
                self.offer(nth(queue), &mut Random(garbage.into()), indirect);
            }
            Step::Kick { queue, trapped: true } => self.driver.kick(nth(queue)),
            // A counter that is full is a kick, too.
            Step::Kick { queue, trapped: false } => _ = self.slot.kicks()[nth(queue)].write(1),
            Step::Collect { queue } => self.collect(nth(queue)),
            Step::Serve { garbage, chains } => self.serve(garbage, chains),
            Step::ResetQueue { queue } => {
                let transport = self.driver.transport();
                transport.write(VIRTIO_MMIO_QUEUE_SEL, nth(queue) as u32);
                transport.write(QUEUE_RESET, 1);
            }
            Step::RenewQueue { queue } => {
                let size = self.driver.params(nth(queue)).size;
                self.driver.renew_queue(nth(queue), size);
                self.aim();
            }
        }
    }

    /// When all is over: the device starts for a driver with manners, and serves it. What has come
    /// back altogether.
    pub(super) fn end(mut self, begin: Begin) -> Back {
        self.start(begin);
        self.check_alive();
        self.serve(0, 1);
        self.check_alive();
        self.back
    }

    #[track_caller]
    fn check_alive(&mut self) {
        let status = self.driver.transport().get_status();
        assert!(!status.intersects(BROKEN), "a good driver after the attack finds {status:?}");
        for queue in 0..self.sizes.len() {
            let error = self.driver.queue(queue).error();
            assert_eq!(error, None, "queue {queue} of a good driver after the attack");
        }
    }

    fn start(&mut self, begin: Begin) {
        let sizes = queue_sizes(begin, self.sizes);
        self.driver = RawDriver::new(self.slot, features(begin, self.own), &sizes);
        self.begin = begin;
        self.aim();
    }

    /// Stores to memory go to the rings of now.
    fn aim(&self) {
        let queues = 0..self.sizes.len();
        self.target.aim(queues.map(|queue| self.driver.params(queue)).collect());
    }

    fn offer(&mut self, queue: usize, random: &mut Random, indirect: bool) {
        let indirect = indirect && features(self.begin, self.own).has(Features::INDIRECT);
        let queue = self.driver.queue(queue);
        let most = if indirect { 16 } else { queue.free() };
        if most > 0 {
            let chain = self.target.arena.chain(random, most);
            // None when the ring is full.
            let _ = match indirect {
                true => queue.add_indirect(&chain, self.target.table(random)),
                false => queue.add(&chain),
            };
            queue.publish();
        }
    }

    /// A driver with manners does all queues at once, and knows whether a kick is wanted.
    fn serve(&mut self, garbage: u32, chains: u8) {
        let status = self.driver.transport().get_status();
        if status.intersects(BROKEN) || !status.contains(DeviceStatus::DRIVER_OK) {
            self.start(self.begin);
        }
        let mut random = Random(garbage.into());
        for queue in 0..self.sizes.len() {
            (0..chains).for_each(|_| self.offer(queue, &mut random, false));
            if self.driver.queue(queue).wants_kick() {
                self.driver.kick(queue);
            }
        }
        (0..self.sizes.len()).for_each(|queue| self.collect(queue));
    }

    /// Leaves the device a moment to come so far.
    fn collect(&mut self, queue: usize) {
        let queue = self.driver.queue(queue);
        let before = self.back.chains;
        for _ in 0..MOMENT {
            while let Some(used) = queue.pop_used() {
                self.back.chains += 1;
                self.back.written += u64::from(used.written > 0);
            }
            if self.back.chains > before || queue.free() == queue.size() {
                break;
            }
            self.pace.step();
            std::thread::yield_now();
        }
        // True when there is more: that can wait.
        let _ = queue.enable_interrupts();
    }
}

fn features(Begin { rings, own, .. }: Begin, offered: Features) -> Features {
    let chosen = (0..).zip(RINGS).filter(|(n, _)| rings >> n & 1 != 0);
    let features = chosen.fold(Features::RING_RESET, |all, (_, feature)| all.with(feature));
    features.with(offered.and(Features(own.into())))
}

/// As the device has them, but no larger than this driver wants them.
fn queue_sizes(Begin { rings, size, .. }: Begin, most: &[u16]) -> Vec<u16> {
    let size = match rings & 1 != 0 {
        true => size,
        // Of a split ring: the power of two that is not larger.
        false => 1 << size.ilog2(),
    };
    most.iter().map(|most| size.min(*most)).collect()
}
