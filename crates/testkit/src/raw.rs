//! A driver without manners: it offers the device any buffers at all, in split rings and packed ones.

use std::time::{Duration, Instant};

use cubie_virtio_core::Features;
use cubie_virtq::QueueParams;
use cubie_virtq::driver::{Buffer, DriverQueue};
use virtio_drivers::transport::{DeviceStatus, Transport};

use crate::{RegisterTransport, Slot};

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
    queues: Vec<DriverQueue>,
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
        let mut queue = |(size, index)| {
            let (_, bytes) = QueueParams::contiguous(0, size, features);
            let base = slot.guest().take_rings(bytes, 64);
            let (params, _) = QueueParams::contiguous(base, size, features);
            let queue = DriverQueue::new(slot.guest().memory().clone(), params, features);
            let QueueParams { desc, driver, device, .. } = params;
            transport.queue_set(index, size.into(), desc, driver, device);
            queue.expect("a size that a ring may have")
        };
        let queues = sizes.iter().copied().zip(0..).map(&mut queue).collect();
        transport.set_status(agreed | DeviceStatus::DRIVER_OK);
        Self { transport, queues }
    }

    /// The registers.
    pub fn transport(&mut self) -> &mut RegisterTransport {
        &mut self.transport
    }

    /// A queue, for what this type does not do with it.
    pub fn queue(&mut self, queue: usize) -> &mut DriverQueue {
        &mut self.queues[queue]
    }

    /// Makes a chain of these buffers available. The device is not kicked.
    ///
    /// # Panics
    /// When they are more than there are free descriptors.
    #[track_caller]
    pub fn add(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let queue = &mut self.queues[queue];
        let token = queue.add(buffers).expect("free descriptors");
        queue.publish();
        token
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
        let queue = &mut self.queues[queue];
        let used = queue.pop_used();
        assert_eq!(queue.error(), None, "the device broke its ring");
        used.map(|used| Used { head: used.token.into(), written: used.written })
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
