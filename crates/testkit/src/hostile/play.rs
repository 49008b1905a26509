//! The attack itself.

use std::sync::{Mutex, PoisonError};

use cubie_virtio_core::Features;
use cubie_virtq::QueueParams;
use virtio_bindings::virtio_mmio::*;
use virtio_drivers::transport::{DeviceStatus, Transport};
use vm_memory::{Bytes, GuestAddress};

use super::step::{Attack, Place, Poke, Step};
use crate::beside::beside;
use crate::conformance::Make;
use crate::garbage::{Arena, Random};
use crate::{Guest, RawDriver, Slot};

/// Bytes of the memory for indirect tables, which is one for all chains: they overlap.
const TABLES: u64 = 4096;
/// Stores of the other thread, before it lets others run.
const BURST: usize = 4;
/// Looks at a used ring in which there is nothing yet.
const MOMENT: usize = 20;
/// QueueReset, which virtio-bindings does not know yet (VIRTIO 1.4 §4.2.2).
const QUEUE_RESET: u32 = 0xc0;
/// What shapes a ring, by the bits of [`Step::Start`].
const RINGS: [Features; 4] =
    [Features::PACKED, Features::EVENT_IDX, Features::INDIRECT, Features::IN_ORDER];

/// Where a store may hit.
struct Target {
    arena: Arena,
    tables: u64,
    queues: Mutex<Vec<QueueParams>>,
}

struct Attacker<'a> {
    slot: &'a Slot,
    target: &'a Target,
    sizes: &'a [u16],
    driver: RawDriver,
    /// INDIRECT was chosen.
    indirect: bool,
}

/// Plays the attack on a new device, on a thread that has no guest. Afterwards the device must still serve
/// a driver with manners.
pub(super) fn play(make: Make, attack: &Attack) {
    let guest = Guest::new();
    let device = make();
    let sizes = device.queue_sizes().to_vec();
    let socket = guest.socket();
    let slot = if attack.trapped { socket.trapped() } else { socket }.plug(device);
    let target = Target {
        arena: Arena::new(&guest, &mut Random(0)),
        tables: guest.buffer(TABLES as usize).0,
        queues: Mutex::default(),
    };
    let mut pokes = attack.meanwhile.iter().cycle();
    let body = || {
        let driver = RawDriver::new(&slot, Features::default(), &sizes);
        let mut attacker =
            Attacker { slot: &slot, target: &target, sizes: &sizes, driver, indirect: false };
        attack.steps.iter().for_each(|step| attacker.take(*step));
    };
    if attack.meanwhile.is_empty() {
        body();
    } else {
        let again = || {
            pokes.by_ref().take(BURST).for_each(|poke| target.hit(&guest, *poke));
            std::thread::yield_now();
        };
        beside(again, body);
    }
    let mut driver = RawDriver::new(&slot, Features::default(), &sizes);
    let status = driver.transport().get_status();
    let broken = DeviceStatus::DEVICE_NEEDS_RESET | DeviceStatus::FAILED;
    assert!(!status.intersects(broken), "a good driver after the attack finds {status:?}");
    drop(driver);
    drop(slot.unplug());
}

impl Target {
    fn hit(&self, guest: &Guest, Poke { place, value, width }: Poke) {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let params = |queue: u8| queues.get(usize::from(queue) % queues.len().max(1)).copied();
        let address = match place {
            Place::Descriptor { queue, index, field } => params(queue)
                .map(|params| params.desc + 16 * u64::from(index % params.size) + field),
            Place::DriverArea { queue, offset } => params(queue)
                .map(|params| params.driver + u64::from(offset) % (params.device - params.driver)),
            Place::DeviceArea { queue, offset } => params(queue)
                .map(|params| params.device + u64::from(offset) % (8 * u64::from(params.size) + 6)),
            Place::Table { offset } => Some(self.tables + u64::from(offset) % TABLES),
            Place::Payload { offset } => Some(self.arena.at(offset)),
        };
        if let Some(address) = address {
            let bytes = &value.to_le_bytes()[..width];
            guest.memory().write_slice(bytes, GuestAddress(address)).expect("a place in memory");
        }
    }
}

impl Attacker<'_> {
    fn take(&mut self, step: Step) {
        let count = self.sizes.len();
        let nth = |queue: u8| usize::from(queue) % count;
        match step {
            Step::Start { rings, size } => self.start(rings, size),
            Step::Poke(poke) => self.target.hit(self.slot.guest(), poke),
            Step::Write { offset, value, width } => {
                let bytes = u64::from(value).to_le_bytes();
                self.driver.transport().write_bytes(offset.into(), &bytes[..width]);
            }
            Step::Read { offset, width } => {
                self.driver.transport().read_bytes(offset.into(), &mut [0; 8][..width]);
            }
            _ if count == 0 => {}
            Step::Offer { queue, garbage, indirect } => self.offer(nth(queue), garbage, indirect),
            Step::Kick { queue, trapped: true } => self.driver.kick(nth(queue)),
            // A counter that is full is a kick, too.
            Step::Kick { queue, trapped: false } => _ = self.slot.kicks()[nth(queue)].write(1),
            Step::Collect { queue } => self.collect(nth(queue)),
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

    fn start(&mut self, rings: u8, size: u16) {
        let chosen = (0..).zip(RINGS).filter(|(n, _)| rings >> n & 1 != 0);
        let features = chosen.fold(Features::RING_RESET, |all, (_, feature)| all.with(feature));
        let size = match features.has(Features::PACKED) {
            true => size,
            // The power of two that is not larger.
            false => 1 << size.ilog2(),
        };
        let sizes: Vec<_> = self.sizes.iter().map(|max| size.min(*max)).collect();
        self.driver = RawDriver::new(self.slot, features, &sizes);
        self.indirect = features.has(Features::INDIRECT);
        self.aim();
    }

    /// Stores to memory go to the rings of now.
    fn aim(&self) {
        let params = (0..self.sizes.len()).map(|queue| self.driver.params(queue)).collect();
        *self.target.queues.lock().unwrap_or_else(PoisonError::into_inner) = params;
    }

    fn offer(&mut self, queue: usize, garbage: u32, indirect: bool) {
        let indirect = indirect && self.indirect;
        let (target, queue) = (self.target, self.driver.queue(queue));
        let most = if indirect { 16 } else { queue.free() };
        if most > 0 {
            let mut random = Random(garbage.into());
            let chain = target.arena.chain(&mut random, most);
            // None when the ring is full.
            let _ = match indirect {
                true => queue.add_indirect(&chain, target.tables + 256 * random.below(16)),
                false => queue.add(&chain),
            };
            queue.publish();
        }
    }

    /// Leaves the device a moment to come so far.
    fn collect(&mut self, queue: usize) {
        let queue = self.driver.queue(queue);
        for _ in 0..MOMENT {
            if queue.pop_used().is_some() {
                break;
            }
            std::thread::yield_now();
        }
        while queue.pop_used().is_some() {}
        // True when there is more: that can wait.
        let _ = queue.enable_interrupts();
    }
}
