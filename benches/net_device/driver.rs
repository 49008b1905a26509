//! The driver's end, and the guest's memory.

use std::sync::Arc;

use anyhow::Context;
use cubie::irq::Interrupt;
use cubie::virtq::driver::{Buffer, DriverQueue};
use cubie::virtq::{Features, OnFault, QueueParams, QueueResources, QueueState};
use virtio_bindings::virtio_net::*;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use crate::case::{Case, Direction, HEADER, SIZE};

/// The queue that is measured, then the pair's other one, which stays empty.
const RINGS: [u64; 2] = [0x1_0000, 0x2_0000];
/// A table for each descriptor of the queue.
const TABLES: u64 = 0x4_0000;
const TABLE: u64 = 0x200;
const BUFFERS: u64 = 0x10_0000;
const MEMORY: usize = 4 << 20;

/// Ethernet, IPv4 and TCP, to an address that is nobody's.
const FRONT: [u8; 54] = {
    let mut front = [0; 54];
    (front[0], front[6]) = (2, 2);
    // Ethertype, version and length, protocol, length of TCP's header.
    (front[12], front[14], front[23], front[46]) = (8, 0x45, 6, 0x50);
    // The packet's length, whose checksum nobody gets to.
    (front[16], front[17]) = (0xff, 0xff);
    front
};

/// The driver of one queue.
pub(crate) struct Driver {
    case: Case,
    queue: DriverQueue,
    /// The buffers of each frame of a batch.
    frames: Vec<Vec<Buffer>>,
    kick: EventFd,
    interrupt: EventFd,
}

/// The pair of queues, as the device gets it.
pub(crate) struct Pair {
    pub(crate) features: Features,
    pub(crate) queues: Vec<QueueResources>,
}

impl Driver {
    pub(crate) fn new(case: Case, packed: bool) -> anyhow::Result<(Self, Pair)> {
        let memory = Arc::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)])?);
        let ring = if packed { Features::PACKED } else { Features::default() };
        let features = [VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4]
            .into_iter()
            .fold(Features::RING.with(Features::VERSION_1), |all, one| all.with(Features::bit(one)))
            .with(ring);
        let params = RINGS.map(|base| QueueParams::contiguous(base, SIZE, features).0);
        let queue = DriverQueue::new(Arc::clone(&memory), params[0], features)?;
        let frames = (0..case.batch).map(|number| frame(&case, number)).collect::<Vec<_>>();
        if case.direction == Direction::Transmit {
            frames.iter().try_for_each(|buffers| write_frame(&case, &memory, buffers[0]))?;
        }
        let (kick, interrupt) = (EventFd::new(0)?, EventFd::new(0)?);
        let driver = Self {
            case,
            queue,
            frames,
            kick: kick.try_clone()?,
            interrupt: interrupt.try_clone()?,
        };
        let index = u16::from(case.direction == Direction::Transmit);
        let used = [
            (index, kick, Interrupt::new(interrupt)),
            (1 - index, EventFd::new(0)?, Interrupt::silent()),
        ];
        let queues = used.into_iter().zip(params).map(|((index, kick, interrupt), params)| {
            let (state, memory) = (QueueState::fresh(features), Arc::clone(&memory));
            let fault = OnFault::unheard();
            QueueResources { index, params, state, features, kick, interrupt, fault, memory }
        });
        Ok((driver, Pair { features, queues: queues.collect() }))
    }

    /// A batch, until the device has used all of it.
    pub(crate) fn turn(&mut self) {
        let mut left = 0;
        for (number, buffers) in (0..).zip(&self.frames) {
            left += match self.case.direction {
                Direction::Transmit if buffers.len() > 1 => {
                    let table = TABLES + TABLE * number;
                    self.queue.add_indirect(buffers, table).map(|_| 1)
                }
                // Linux has header and frame in one piece.
                Direction::Transmit => self.queue.add(buffers).map(|_| 1),
                Direction::Receive => {
                    buffers.iter().map(|buffer| self.queue.add(&[*buffer]).map(|_| 1)).sum()
                }
            }
            .expect("room in the queue");
        }
        self.queue.publish();
        if self.queue.wants_kick() {
            self.kick.write(1).expect("an eventfd");
        }
        while left > 0 {
            while self.queue.pop_used().is_some() {
                left -= 1;
            }
            if left > 0 && !self.queue.enable_interrupts() {
                self.interrupt.read().expect("an eventfd");
            }
            assert_eq!(self.queue.error(), None);
        }
    }
}

/// The buffers of frame `number` of a batch.
fn frame(case: &Case, number: u16) -> Vec<Buffer> {
    let first = BUFFERS + u64::from(number * case.buffers()) * 4096;
    let address = |i| first + u64::from(i) * 4096;
    match case.direction {
        Direction::Receive => {
            (0..case.buffers()).map(|i| Buffer::writable(address(i), case.buffer)).collect()
        }
        Direction::Transmit => {
            let mut left = HEADER + case.frame;
            let piece = |i| {
                let len = left.min(case.buffer);
                left -= len;
                Buffer::readable(address(i), len)
            };
            (0..case.buffers()).map(piece).collect()
        }
    }
}

/// What the guest has to say in front of a frame, and the frame's own front.
fn write_frame(case: &Case, memory: &GuestMemoryMmap, first: Buffer) -> anyhow::Result<()> {
    let mut header = [0; HEADER as usize];
    if case.is_cut() {
        header[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM as u8;
        header[1] = VIRTIO_NET_HDR_GSO_TCPV4 as u8;
        // Length of the headers, bytes of a segment, where TCP begins and has its checksum.
        let words = [FRONT.len() as u16, 1460, 34, 16];
        for (place, word) in header[2..].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }
    let bytes = [header.as_slice(), &FRONT].concat();
    memory.write_slice(&bytes, GuestAddress(first.address)).context("guest memory")
}
