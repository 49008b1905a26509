//! A driver of a card with its control queue.

use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, RawDriver, Slot};
use cubie_virtio_core::Features;
use virtio_bindings::virtio_net::VIRTIO_NET_F_CTRL_VQ;
use vm_memory::{Bytes, GuestAddress};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const HEADER: usize = cubie_virtio_net::NetHeader::LEN;
pub(crate) const OK: u8 = 0;
pub(crate) const ERR: u8 = 1;

/// The control queue of a card with so many pairs.
pub(crate) const fn control(pairs: usize) -> usize {
    2 * pairs
}

pub(crate) struct Driver {
    pub(crate) guest: Guest,
    pub(crate) raw: RawDriver,
    pub(crate) control: usize,
}

impl Driver {
    /// Chooses `features` beside the control queue, and sets up `pairs` of `all` pairs.
    pub(crate) fn new(guest: &Guest, slot: &Slot, features: Features, pairs: usize) -> Self {
        let features = features.with(Features::bit(VIRTIO_NET_F_CTRL_VQ));
        let raw = RawDriver::new(slot, features, &vec![16; control(pairs) + 1]);
        Self { guest: guest.clone(), raw, control: control(pairs) }
    }

    /// Offers a command, in two buffers.
    pub(crate) fn ask(&mut self, class: u8, command: u8, data: &[u8]) -> GuestAddress {
        let (head, rest, ack) =
            (self.guest.buffer(2), self.guest.buffer(data.len().max(1)), self.guest.buffer(1));
        let memory = self.guest.memory();
        memory.write_slice(&[class, command], head).unwrap();
        memory.write_slice(data, rest).unwrap();
        memory.write_obj(0xffu8, ack).unwrap();
        let mut chain = vec![Descriptor::readable(head.0, 2)];
        if !data.is_empty() {
            chain.push(Descriptor::readable(rest.0, data.len() as u32));
        }
        chain.push(Descriptor::writable(ack.0, 1));
        self.raw.offer(self.control, &chain);
        ack
    }

    /// The card's answer to a command.
    #[track_caller]
    pub(crate) fn command(&mut self, class: u8, command: u8, data: &[u8]) -> u8 {
        let ack = self.ask(class, command, data);
        assert_eq!(self.raw.wait_used(self.control, DEADLINE).written, 1);
        self.guest.memory().read_obj(ack).unwrap()
    }

    /// Offers a buffer of `len` bytes to `queue`, for a frame.
    pub(crate) fn room(&mut self, queue: usize, len: usize) -> GuestAddress {
        let buffer = self.guest.buffer(len);
        self.raw.offer(queue, &[Descriptor::writable(buffer.0, len as u32)]);
        buffer
    }

    /// Waits for the next frame in `queue`, of which `buffer` is the next one; without its header.
    #[track_caller]
    pub(crate) fn frame(&mut self, queue: usize, buffer: GuestAddress) -> Vec<u8> {
        let len = self.raw.wait_used(queue, DEADLINE).written as usize;
        let mut frame = vec![0; len];
        self.guest.memory().read_slice(&mut frame, buffer).unwrap();
        frame.split_off(HEADER)
    }

    /// Sends a frame with an empty header, and waits until its buffer is back.
    #[track_caller]
    pub(crate) fn send(&mut self, queue: usize, frame: &[u8]) {
        let buffer = self.guest.buffer(HEADER + frame.len());
        let at = GuestAddress(buffer.0 + HEADER as u64);
        self.guest.memory().write_slice(frame, at).unwrap();
        let len = (HEADER + frame.len()) as u32;
        self.raw.offer(queue, &[Descriptor::readable(buffer.0, len)]);
        assert_eq!(self.raw.wait_used(queue, DEADLINE).written, 0);
    }
}
