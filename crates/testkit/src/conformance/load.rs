//! A driver that keeps a device busy with garbage, and its books.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use cubie_virtio_core::{Features, QueueState, SavedQueue};
use cubie_virtq::QueueParams;
use cubie_virtq::driver::Buffer;
use virtio_drivers::transport::{DeviceStatus, Transport};
use vmm_sys_util::eventfd::EventFd;

use super::Make;
use super::image::Image;
use crate::garbage::{Arena, Random};
use crate::slot::wait_for;
use crate::{Guest, RawDriver, Slot, Socket};

/// When nothing has come back for so long, nothing more is waited for: a device may keep buffers as long
/// as it likes, for input that does not come.
pub(super) const QUIET: Duration = Duration::from_millis(2);
/// The interrupt for what has come back is there by then.
const ANNOUNCED: Duration = Duration::from_secs(30);
/// Chains that are offered to each queue at once.
const CHAINS: usize = 12;
/// Bytes of a table of indirect descriptors.
const TABLE: usize = 16 * 64;

/// A device in a slot, and what can be negotiated with it.
pub(super) struct Bench {
    pub(super) guest: Guest,
    pub(super) slot: Slot,
    pub(super) sizes: Vec<u16>,
    /// The device's own.
    pub(super) features: Features,
    arena: Arena,
    /// Room for indirect tables.
    tables: Vec<u64>,
}

impl Bench {
    pub(super) fn new(socket: Socket, make: Make) -> Self {
        let device = make();
        let (sizes, features) = (device.queue_sizes().to_vec(), device.features());
        let guest = socket.guest.clone();
        let arena = Arena::new(&guest, &mut Random(0));
        let tables = (0..CHAINS * sizes.len()).map(|_| guest.buffer(TABLE).0).collect();
        Self { guest, slot: socket.plug(device), sizes, features, arena, tables }
    }

    /// A driver that has chosen these features, and has queues of at most `size`.
    pub(super) fn drive(&self, features: Features, size: u16) -> Load {
        let sizes: Vec<_> = self.sizes.iter().map(|max| size.min(*max)).collect();
        let indirect = features.has(Features::INDIRECT);
        Load {
            guest: self.guest.clone(),
            arena: self.arena,
            line: self.slot.interrupt().try_clone().expect("the same eventfd"),
            driver: RawDriver::new(&self.slot, features, &sizes),
            features,
            tables: if indirect { self.tables.clone() } else { vec![] },
            in_flight: vec![HashMap::new(); sizes.len()],
            returned: vec![0; sizes.len()],
            random: Random(u64::from(size) << 32 ^ features.0),
        }
    }
}

/// A chain that the device has.
#[derive(Clone, Debug)]
struct Offered {
    buffers: Vec<Buffer>,
    table: Option<u64>,
}

/// A driver at work.
pub(super) struct Load {
    guest: Guest,
    arena: Arena,
    /// The slot's interrupt.
    line: EventFd,
    pub(super) driver: RawDriver,
    features: Features,
    /// Those that no chain uses.
    tables: Vec<u64>,
    /// By queue and token.
    in_flight: Vec<HashMap<u32, Offered>>,
    /// Chains that came back since the queue was set up, modulo 2¹⁶.
    returned: Vec<u16>,
    random: Random,
}

impl Load {
    /// Makes garbage available in each queue. The device is not kicked.
    pub(super) fn offer(&mut self) {
        for queue in 0..self.in_flight.len() {
            for _ in 0..CHAINS {
                self.offer_chain(queue);
            }
            self.driver.queue(queue).publish();
        }
    }

    fn offer_chain(&mut self, queue: usize) {
        let size = self.driver.queue(queue).size();
        let free = self.driver.queue(queue).free();
        if free == 0 {
            return;
        }
        let indirect = self.random.below(2) == 0;
        let table = if indirect { self.tables.pop() } else { None };
        let most = if table.is_some() { size } else { free };
        let buffers = self.arena.chain(&mut self.random, most);
        let ring = self.driver.queue(queue);
        let token = match table {
            Some(table) => ring.add_indirect(&buffers, table),
            None => ring.add(&buffers),
        };
        let token = token.expect("no more buffers than descriptors").into();
        let twice = self.in_flight[queue].insert(token, Offered { buffers, table });
        assert!(twice.is_none(), "a token twice");
    }

    /// Kicks all queues.
    pub(super) fn kick(&mut self) {
        (0..self.in_flight.len()).for_each(|queue| self.driver.kick(queue));
    }

    /// Takes back what the device has finished with, until nothing has come for a while. How much.
    pub(super) fn settle(&mut self) -> usize {
        let (mut count, mut last) = (0, Instant::now());
        while self.in_flight.iter().any(|chains| !chains.is_empty()) && last.elapsed() < QUIET {
            let more = self.take_back();
            if more == 0 {
                std::thread::yield_now();
            } else {
                (count, last) = (count + more, Instant::now());
            }
        }
        count
    }

    /// Takes back what the device has finished with so far. How much.
    pub(super) fn take_back(&mut self) -> usize {
        let mut count = 0;
        for (queue, chains) in self.in_flight.iter_mut().enumerate() {
            while let Some(used) = self.driver.used(queue) {
                let offered = chains.remove(&used.head).expect("a chain that the device has");
                self.tables.extend(offered.table);
                self.returned[queue] = self.returned[queue].wrapping_add(1);
                count += 1;
            }
        }
        count
    }

    /// One round of garbage: what comes back is announced, and the device writes where it may.
    pub(super) fn round(&mut self) -> usize {
        // Completions from before may or may not have interrupted. From here on each finds it asked for.
        let _ = self.line.read();
        for queue in 0..self.in_flight.len() {
            while self.driver.queue(queue).enable_interrupts() {
                self.take_back();
            }
        }
        self.offer();
        let before = Image::new(self.guest.memory());
        let writable = self.writable();
        self.kick();
        let count = self.settle();
        before.check(self.guest.memory(), &writable);
        if count > 0 {
            wait_for(&self.line, ANNOUNCED);
        }
        self.check_alive();
        count
    }

    /// The device goes on, whatever it was sent: nothing of it breaks a rule of the rings.
    #[track_caller]
    pub(super) fn check_alive(&mut self) {
        let status = self.driver.transport().get_status();
        assert_eq!(status, running(), "after buffers that are in order, and hold garbage");
    }

    /// The device stands still: what it has taken it has given back, and the driver has found it.
    #[track_caller]
    pub(super) fn check_states(&self, queues: &[SavedQueue]) {
        for (queue, returned) in queues.iter().zip(&self.returned) {
            let QueueState { next_avail, next_used } = queue.state;
            assert_eq!(next_avail, next_used, "chains are in flight");
            if !self.features.has(Features::PACKED) {
                assert_eq!(next_used, *returned, "chains that were used");
            }
        }
    }

    /// Where the device may write: the rings, and the buffers that it has.
    pub(super) fn writable(&self) -> Vec<Range<u64>> {
        let queues = 0..self.in_flight.len();
        let rings = queues.flat_map(|queue| used_parts(&self.driver.params(queue), self.features));
        let chains = self.in_flight.iter().flat_map(HashMap::values);
        let buffers = chains.flat_map(|offered| &offered.buffers).filter(|buffer| buffer.writable);
        let buffers = buffers.map(|buffer| buffer.address..buffer.address + u64::from(buffer.len));
        rings.chain(buffers).collect()
    }

    /// Takes a queue back from the device, with all that is in it.
    pub(super) fn reset_queue(&mut self, queue: usize) {
        self.driver.reset_queue(queue);
        let lost = std::mem::take(&mut self.in_flight[queue]);
        self.returned[queue] = 0;
        self.tables.extend(lost.into_values().filter_map(|offered| offered.table));
    }
}

/// What a device writes of a queue (VIRTIO 1.4 §2.7.8, §2.8.13).
fn used_parts(params: &QueueParams, features: Features) -> [Range<u64>; 2] {
    let QueueParams { size, desc, device, .. } = *params;
    let entries = u64::from(size);
    match features.has(Features::PACKED) {
        true => [desc..desc + 16 * entries, device..device + 4],
        false => [desc..desc, device..device + 6 + 8 * entries],
    }
}

/// The status of a device that runs.
pub(super) fn running() -> DeviceStatus {
    DeviceStatus::ACKNOWLEDGE
        | DeviceStatus::DRIVER
        | DeviceStatus::FEATURES_OK
        | DeviceStatus::DRIVER_OK
}
