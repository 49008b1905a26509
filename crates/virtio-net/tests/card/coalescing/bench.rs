//! A card in a time of its own, and a driver that counts interrupts.

use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RawDriver, Slot, VirtualClock};
use cubie_virtio_core::Features;
use cubie_virtio_net::{Loopback, Mac, Net};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, VIRTIO_NET_F_NOTF_COAL,
    VIRTIO_NET_F_VQ_NOTF_COAL,
};
use vm_memory::{Bytes, GuestAddress};

use crate::driver::{DEADLINE, Driver, HEADER, OK, control};

pub(super) const RECEIVE: u16 = 0;
pub(super) const TRANSMIT: u16 = 1;
/// Commands of the class about interrupts that wait.
pub(super) const TX_SET: u8 = 0;
pub(super) const RX_SET: u8 = 1;
const VQ_SET: u8 = 2;
const VQ_GET: u8 = 3;
const CLASS: u8 = 6;
/// Chains of a queue.
pub(super) const SIZE: u16 = 64;
const FRAME: usize = 20;

pub(super) struct Bench {
    pub(super) driver: Driver,
    pub(super) clock: VirtualClock,
    slot: Slot,
    ends: Vec<Loopback>,
    features: Features,
    /// The bytes of all frames.
    buffer: GuestAddress,
    answer: GuestAddress,
}

/// A card with cables of its own.
fn card(pairs: usize, clock: &VirtualClock) -> (Net<Loopback>, Vec<Loopback>) {
    let (cables, ends) = (0..pairs).map(|_| Loopback::pair().unwrap()).unzip();
    let net = Net::with_pairs(cables, Mac::made_from("test")).unwrap();
    (net.with_clock(clock.clone()), ends)
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with_pairs(1)
    }

    pub(super) fn with_pairs(pairs: usize) -> Self {
        let coalescing = [VIRTIO_NET_F_NOTF_COAL, VIRTIO_NET_F_VQ_NOTF_COAL].map(Features::bit);
        Self::of(pairs, coalescing[0].with(coalescing[1]))
    }

    /// `features` are chosen beside those that it needs itself.
    pub(super) fn of(pairs: usize, features: Features) -> Self {
        let mut features = features.with(Features::RING_RESET);
        for feature in [VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_CTRL_RX] {
            features = features.with(Features::bit(feature));
        }
        if pairs > 1 {
            features = features.with(Features::bit(VIRTIO_NET_F_MQ));
        }
        let (guest, clock) = (Guest::new(), VirtualClock::default());
        let (net, ends) = card(pairs, &clock);
        let slot = guest.plug(Box::new(net));
        let (buffer, answer) = (guest.buffer(HEADER + FRAME), guest.buffer(9));
        let driver = drive(&slot, features, pairs);
        let mut bench = Self { driver, clock, slot, ends, features, buffer, answer };
        bench.settle();
        bench
    }

    pub(super) fn drive_anew(&mut self) {
        self.driver = drive(&self.slot, self.features, self.ends.len());
        self.settle();
    }

    /// Interrupts since the last time. Those of the control queue are not wanted.
    pub(super) fn interrupts(&self) -> u64 {
        self.slot.interrupt().read().unwrap_or(0)
    }

    /// Lets so many frames pass through a queue, in one batch. The interrupts that come of it.
    #[track_caller]
    pub(super) fn pass(&mut self, queue: u16, frames: u16) -> u64 {
        let (index, end) = (usize::from(queue), usize::from(queue) / 2);
        let len = (HEADER + FRAME) as u32;
        let buffer = if queue.is_multiple_of(2) {
            (0..frames).for_each(|_| assert!(self.ends[end].send_frame(&[7; FRAME])));
            // They wait for buffers.
            self.sync();
            Descriptor::writable(self.buffer.0, len)
        } else {
            self.driver.guest.memory().write_slice(&[0; HEADER], self.buffer).unwrap();
            Descriptor::readable(self.buffer.0, len)
        };
        let ring = self.driver.raw.queue(index);
        (0..frames).for_each(|_| _ = ring.add(&[buffer]).expect("free descriptors"));
        ring.publish();
        self.driver.raw.kick(index);
        self.sync();
        for _ in 0..frames {
            assert!(self.driver.raw.used(index).is_some(), "a driver that looks sees it at once");
            if !queue.is_multiple_of(2) {
                assert!(self.ends[end].wait_frame(Duration::ZERO).is_some());
            }
        }
        self.interrupts()
    }

    /// Lets time pass. The interrupts that come of it.
    #[track_caller]
    pub(super) fn wait(&mut self, time: Duration) -> u64 {
        self.clock.advance(time);
        self.sync();
        self.interrupts()
    }

    /// Lets time pass for a driver that sleeps until it is interrupted. How often it is.
    #[track_caller]
    pub(super) fn sleep(&mut self, time: Duration) -> u64 {
        self.clock.advance(time);
        self.slot.wait_interrupt(DEADLINE)
    }

    /// When the card answers a command, its workers have done what they were woken for before it.
    #[track_caller]
    pub(super) fn sync(&mut self) {
        assert_eq!(self.driver.command(0, 0, &[1]), OK);
    }

    /// The card has started. What workers do at their start may answer one command, and a bell may be left of it.
    /// No interrupt is.
    #[track_caller]
    pub(super) fn settle(&mut self) {
        (0..2).for_each(|_| self.sync());
        self.interrupts();
    }

    /// Sets the numbers of all queues of a kind.
    #[track_caller]
    pub(super) fn set(&mut self, command: u8, packets: u32, usecs: u32) -> u8 {
        self.driver.command(CLASS, command, &numbers(packets, usecs))
    }

    /// Sets the numbers of one queue. What is reserved means nothing.
    #[track_caller]
    pub(super) fn set_one(&mut self, queue: u16, packets: u32, usecs: u32) -> u8 {
        let head = [&queue.to_le_bytes()[..], &[0xab; 2]].concat();
        self.driver.command(CLASS, VQ_SET, &[head, numbers(packets, usecs)].concat())
    }

    /// The numbers of one queue, or `None` if the card answers with an error.
    #[track_caller]
    pub(super) fn get(&mut self, queue: u16) -> Option<[u32; 2]> {
        let Self { driver, answer, .. } = self;
        let question = driver.guest.buffer(6);
        let [low, high] = queue.to_le_bytes();
        let memory = driver.guest.memory();
        memory.write_slice(&[CLASS, VQ_GET, low, high, 0xab, 0xab], question).unwrap();
        let chain = [Descriptor::readable(question.0, 6), Descriptor::writable(answer.0, 9)];
        driver.raw.offer(driver.control, &chain);
        driver.raw.wait_used(driver.control, DEADLINE);
        let mut words = [0; 9];
        driver.guest.memory().read_slice(&mut words, *answer).unwrap();
        let word = |at: usize| u32::from_le_bytes(words[at..at + 4].try_into().unwrap());
        (words[8] == OK).then(|| [word(0), word(4)])
    }

    /// Saves the card, and goes on with another one. How often the first one has interrupted.
    pub(super) fn save_and_restore(&mut self) -> u64 {
        let state = self.slot.save();
        let interrupts = self.interrupts();
        let (net, ends) = card(self.ends.len(), &self.clock);
        self.slot.restore(Box::new(net), &state).unwrap();
        self.slot.resume().unwrap();
        self.ends = ends;
        self.settle();
        interrupts
    }
}

fn drive(slot: &Slot, features: Features, pairs: usize) -> Driver {
    let (guest, control) = (slot.guest().clone(), control(pairs));
    let mut raw = RawDriver::new(slot, features, &vec![SIZE; control + 1]);
    raw.queue(control).disable_interrupts();
    Driver { guest, raw, control }
}

fn numbers(packets: u32, usecs: u32) -> Vec<u8> {
    [packets.to_le_bytes(), usecs.to_le_bytes()].concat()
}
