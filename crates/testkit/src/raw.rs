//! A driver without manners: it offers the device any buffers at all, in split rings and packed ones.

use std::ops::Range;
use std::time::{Duration, Instant};

use cubie_virtio_core::Features;
use cubie_virtq::QueueParams;
use cubie_virtq::driver::{Buffer, DriverQueue};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_QUEUE_READY, VIRTIO_MMIO_QUEUE_SEL};
use virtio_drivers::transport::{DeviceStatus, Transport};

use crate::{Guest, RegisterTransport, Slot};

/// QueueReset, which virtio-bindings does not know yet (VIRTIO 1.4 §4.2.2).
pub(crate) const QUEUE_RESET: u32 = 0xc0;

/// A chain that the device has finished with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// What [`RawDriver::offer`] returned.
    pub head: u32,
    /// Bytes that the device says it has written.
    pub written: u32,
}

/// A driver whose buffers are the test's affair: in which order, of what length, in memory or not. It
/// never waits by itself.
///
/// The rings are packed when `VIRTIO_F_RING_PACKED` is chosen, otherwise split. A device that breaks
/// them, or writes more than there is room for, fails the test.
pub struct RawDriver {
    transport: RegisterTransport,
    guest: Guest,
    features: Features,
    queues: Vec<Rings>,
}

/// One queue, and the memory that it lies in.
struct Rings {
    queue: DriverQueue,
    params: QueueParams,
    guest: Guest,
    range: Range<u64>,
}

impl Rings {
    fn new(guest: &Guest, size: u16, features: Features) -> Self {
        let (_, bytes) = QueueParams::contiguous(0, size, features);
        let base = guest.take_rings(bytes, 64);
        let (params, _) = QueueParams::contiguous(base, size, features);
        let queue = DriverQueue::new(guest.memory().clone(), params, features)
            .expect("a size that a ring may have");
        Self { queue, params, guest: guest.clone(), range: base..base + bytes }
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        self.guest.give_rings(self.range.clone());
    }
}

impl RawDriver {
    /// Resets the device in `slot`, chooses `features` beside VERSION_1, sets up queues of these sizes
    /// from queue 0 on, and says DRIVER_OK.
    ///
    /// # Panics
    /// When the device does not take the features.
    pub fn new(slot: &Slot, features: Features, sizes: &[u16]) -> Self {
        let mut transport = slot.transport();
        let features = features.with(Features::VERSION_1);
        let known = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        transport.set_status(DeviceStatus::empty());
        transport.set_status(known);
        transport.write_driver_features(features.0);
        let agreed = known | DeviceStatus::FEATURES_OK;
        transport.set_status(agreed);
        assert_eq!(transport.get_status(), agreed, "the features are refused");
        let guest = slot.guest().clone();
        let mut driver = Self { transport, guest, features, queues: vec![] };
        for (index, size) in sizes.iter().enumerate() {
            let rings = Rings::new(&driver.guest, *size, features);
            driver.queues.push(rings);
            driver.show_queue(index);
        }
        driver.transport.set_status(agreed | DeviceStatus::DRIVER_OK);
        driver
    }

    /// Tells the device where a queue lies, and that it is ready.
    fn show_queue(&mut self, queue: usize) {
        let QueueParams { size, desc, driver, device } = self.queues[queue].params;
        self.transport.queue_set(queue as u16, size.into(), desc, driver, device);
    }

    /// Takes a queue back from the device (VIRTIO 1.4 §2.6.1), for which
    /// [`Features::RING_RESET`] was chosen.
    ///
    /// # Panics
    /// When the device keeps it.
    pub fn reset_queue(&mut self, queue: usize) {
        self.transport.write(VIRTIO_MMIO_QUEUE_SEL, queue as u32);
        self.transport.write(QUEUE_RESET, 1);
        let left = [QUEUE_RESET, VIRTIO_MMIO_QUEUE_READY].map(|at| self.transport.read(at));
        assert_eq!(left, [0, 0], "queue {queue} is still in reset, or ready");
    }

    /// Sets a queue that was reset up anew, empty and with another size.
    pub fn renew_queue(&mut self, queue: usize, size: u16) {
        self.queues[queue] = Rings::new(&self.guest, size, self.features);
        self.show_queue(queue);
    }

    /// The registers.
    pub fn transport(&mut self) -> &mut RegisterTransport {
        &mut self.transport
    }

    /// A queue, for what this type does not do with it.
    pub fn queue(&mut self, queue: usize) -> &mut DriverQueue {
        &mut self.queues[queue].queue
    }

    /// Where a queue lies.
    pub fn params(&self, queue: usize) -> QueueParams {
        self.queues[queue].params
    }

    /// Makes a chain of these buffers available. The device is not kicked.
    ///
    /// # Panics
    /// When they are more than there are free descriptors.
    #[track_caller]
    pub fn add(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let token = self.queues[queue].queue.add(buffers).expect("free descriptors");
        self.show_chain(queue, token, buffers, None);
        token
    }

    /// Makes a chain of these buffers available, in a table at guest address `table`: 16 bytes for each.
    /// [`Features::INDIRECT`] was chosen. The device is not kicked.
    ///
    /// # Panics
    /// When no descriptor is free, and as [`DriverQueue::add_indirect`] has no chain.
    #[track_caller]
    pub fn add_indirect(&mut self, queue: usize, buffers: &[Buffer], table: u64) -> u16 {
        let token = self.queues[queue].queue.add_indirect(buffers, table);
        let token = token.expect("a free descriptor, and a table in memory");
        self.show_chain(queue, token, buffers, Some(table));
        token
    }

    fn show_chain(&mut self, queue: usize, token: u16, buffers: &[Buffer], table: Option<u64>) {
        self.transport.lends(queue as u32, token, buffers, table);
        self.queues[queue].queue.publish();
    }

    /// Kicks the device, whether it wants that or not.
    pub fn kick(&mut self, queue: usize) {
        self.transport.notify(queue as u16);
    }

    /// Makes a chain of these buffers available and kicks.
    ///
    /// # Panics
    /// As [`RawDriver::add`].
    #[track_caller]
    pub fn offer(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let head = self.add(queue, buffers);
        self.kick(queue);
        head
    }

    /// The next chain that the device has finished with, if there is one already.
    ///
    /// # Panics
    /// When the device broke its ring.
    #[track_caller]
    pub fn used(&mut self, queue: usize) -> Option<Used> {
        let ring = &mut self.queues[queue].queue;
        let used = ring.pop_used();
        assert_eq!(ring.error(), None, "the device broke its ring");
        let used = used?;
        self.transport.takes_chain(queue as u32, (used.token, used.written));
        Some(Used { head: used.token.into(), written: used.written })
    }

    /// Waits for the next chain that the device finishes with.
    ///
    /// # Panics
    /// At the deadline, and as [`RawDriver::used`].
    #[track_caller]
    pub fn wait_used(&mut self, queue: usize, deadline: Duration) -> Used {
        let end = Instant::now() + deadline;
        loop {
            if let Some(used) = self.used(queue) {
                return used;
            }
            assert!(Instant::now() < end, "nothing used after {deadline:?}");
            std::thread::yield_now();
        }
    }
}
