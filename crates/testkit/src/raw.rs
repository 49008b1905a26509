//! A driver without manners: every word of a ring is in the test's hands.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cubie_virtio_core::Features;
use virtio_drivers::transport::{DeviceStatus, Transport};
use vm_memory::{Bytes, GuestAddress};

use crate::{Guest, RegisterTransport, Slot};

/// One entry of a descriptor table (VIRTIO 1.4 §2.7.5).
#[derive(Clone, Copy, Debug, Default)]
pub struct Descriptor {
    /// Guest-physical address of the buffer.
    pub address: u64,
    /// Bytes.
    pub len: u32,
    /// [`Descriptor::NEXT`], [`Descriptor::WRITE`], [`Descriptor::INDIRECT`].
    pub flags: u16,
    /// The entry that follows, with [`Descriptor::NEXT`].
    pub next: u16,
}

impl Descriptor {
    /// The chain goes on.
    pub const NEXT: u16 = 1;
    /// The device writes the buffer.
    pub const WRITE: u16 = 2;
    /// The buffer is a table of descriptors.
    pub const INDIRECT: u16 = 4;

    /// A buffer that the device reads.
    pub const fn readable(address: u64, len: u32) -> Self {
        let (flags, next) = (0, 0);
        Self { address, len, flags, next }
    }

    /// A buffer that the device writes.
    pub const fn writable(address: u64, len: u32) -> Self {
        let this = Self::readable(address, len);
        Self { flags: Self::WRITE, ..this }
    }

    /// As it lies in memory.
    pub fn bytes(&self) -> [u8; 16] {
        let Self { address, len, flags, next } = self;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        bytes
    }
}

/// An entry of a used ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// First descriptor of the chain.
    pub head: u32,
    /// Bytes that the device says it has written.
    pub written: u32,
}

/// Where a queue's parts lie, and how far the driver has got.
#[derive(Debug)]
struct Ring {
    size: u16,
    desc: u64,
    avail: u64,
    used: u64,
    next_desc: u16,
    next_avail: u16,
    next_used: u16,
}

/// A driver that writes into its rings whatever it is told to. It never waits by itself and has no
/// idea of which descriptors are free: it takes them in turn.
pub struct RawDriver {
    transport: RegisterTransport,
    guest: Guest,
    rings: Vec<Ring>,
}

impl RawDriver {
    /// Resets the device in `slot`, chooses `features` beside VERSION_1, sets up queues of these sizes
    /// from queue 0 on, and says DRIVER_OK.
    ///
    /// # Panics
    /// When the device does not take the features.
    pub fn new(slot: &Slot, features: Features, sizes: &[u16]) -> Self {
        let mut transport = slot.transport();
        let known = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        transport.set_status(DeviceStatus::empty());
        transport.set_status(known);
        transport.write_driver_features(features.with(Features::VERSION_1).0);
        let agreed = known | DeviceStatus::FEATURES_OK;
        transport.set_status(agreed);
        assert_eq!(transport.get_status(), agreed, "the features are refused");
        let guest = slot.guest().clone();
        let rings: Vec<_> = sizes.iter().map(|&size| Ring::new(&guest, size)).collect();
        for (ring, index) in rings.iter().zip(0..) {
            transport.queue_set(index, ring.size.into(), ring.desc, ring.avail, ring.used);
        }
        transport.set_status(agreed | DeviceStatus::DRIVER_OK);
        Self { transport, guest, rings }
    }

    /// The registers.
    pub fn transport(&mut self) -> &mut RegisterTransport {
        &mut self.transport
    }

    /// Writes one descriptor, as it is.
    pub fn write_descriptor(&mut self, queue: usize, index: u16, descriptor: Descriptor) {
        let at = self.rings[queue].desc + 16 * u64::from(index);
        self.write(at, &descriptor.bytes());
    }

    /// Makes the chain that begins at `head` available. The device is not kicked.
    pub fn make_available(&mut self, queue: usize, head: u16) {
        let ring = &mut self.rings[queue];
        let entry = ring.avail + 4 + 2 * u64::from(ring.next_avail % ring.size);
        ring.next_avail = ring.next_avail.wrapping_add(1);
        let index = ring.next_avail;
        self.write(entry, &head.to_le_bytes());
        self.write_available_index(queue, index);
    }

    /// Writes the index of the available ring, as it is.
    pub fn write_available_index(&mut self, queue: usize, index: u16) {
        let at = GuestAddress(self.rings[queue].avail + 2);
        let memory = self.guest.memory();
        memory.store(index.to_le(), at, Ordering::Release).expect("ring memory");
    }

    /// Kicks the device.
    pub fn kick(&mut self, queue: usize) {
        self.transport.notify(queue as u16);
    }

    /// Links these buffers, makes the chain available and kicks. The chain's head.
    pub fn offer(&mut self, queue: usize, buffers: &[Descriptor]) -> u16 {
        let Ring { size, next_desc, .. } = self.rings[queue];
        let index = |n: usize| next_desc.wrapping_add(n as u16) % size;
        for (n, buffer) in buffers.iter().enumerate() {
            let mut linked = *buffer;
            if n + 1 < buffers.len() {
                linked.flags |= Descriptor::NEXT;
                linked.next = index(n + 1);
            }
            self.write_descriptor(queue, index(n), linked);
        }
        self.rings[queue].next_desc = index(buffers.len());
        self.make_available(queue, index(0));
        self.kick(queue);
        index(0)
    }

    /// The next entry of the used ring, if there is one already.
    pub fn used(&mut self, queue: usize) -> Option<Used> {
        let ring = &mut self.rings[queue];
        let memory = self.guest.memory();
        let index = memory.load::<u16>(GuestAddress(ring.used + 2), Ordering::Acquire);
        if u16::from_le(index.expect("ring memory")) == ring.next_used {
            return None;
        }
        let entry = ring.used + 4 + 8 * u64::from(ring.next_used % ring.size);
        ring.next_used = ring.next_used.wrapping_add(1);
        let words = memory.read_obj::<[u32; 2]>(GuestAddress(entry));
        let [head, written] = words.expect("ring memory").map(u32::from_le);
        Some(Used { head, written })
    }

    /// Waits for the next entry of the used ring.
    ///
    /// # Panics
    /// At the deadline.
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

    fn write(&self, address: u64, bytes: &[u8]) {
        let written = self.guest.memory().write_slice(bytes, GuestAddress(address));
        written.expect("ring memory");
    }
}

impl Ring {
    /// All three parts in fresh memory.
    fn new(guest: &Guest, size: u16) -> Self {
        let n = u64::from(size);
        let part = |len, align| {
            let at = guest.take_rings(len, align);
            let zeros = vec![0; len as usize];
            let written = guest.memory().write_slice(&zeros, GuestAddress(at));
            written.expect("ring memory");
            at
        };
        Self {
            size,
            desc: part(16 * n, 16),
            avail: part(6 + 2 * n, 2),
            used: part(6 + 8 * n, 4),
            next_desc: 0,
            next_avail: 0,
            next_used: 0,
        }
    }
}
