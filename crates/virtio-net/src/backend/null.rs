//! A cable that goes nowhere, for benchmarks and for cards that need no network.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cubie_virtio_core::Features;
use cubie_virtq::Segments;
use rustix::event::{EventfdFlags, eventfd};

use super::{NetBackend, Received};
use crate::NetHeader;
use crate::protocol::{FRAME_LEN, HOST_OFFLOADS};

/// To everybody, from an address that nobody was given (the second bit), and of a kind that is for experiments
/// (IEEE 802, `0x88b5`).
const HEADER: [u8; 14] = [!0, !0, !0, !0, !0, !0, 2, 0, 0, 0, 0, 0, 0x88, 0xb5];

/// The end of a cable that goes nowhere. What is sent is gone, with whatever was still to be done to it; what
/// is received was made here, if anything. Neither takes a system call, nor a look at what is sent, so that
/// all the time that a frame takes is the card's and its driver's.
///
/// ```
/// use cubie_virtio_net::{Mac, Net, Null};
///
/// // As many frames of 1514 bytes as the guest has buffers for.
/// let flood = Net::new(Null::new()?.with_frames(u64::MAX, 1514), Mac::made_from("flooded"));
/// # drop(flood);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Null {
    /// An eventfd that nobody writes: there is room always, and the guest's kicks are events enough.
    ready: OwnedFd,
    frame: Vec<u8>,
    /// Frames that are still to be received.
    left: u64,
}

impl Null {
    /// A cable by which nothing comes.
    pub fn new() -> io::Result<Self> {
        let ready = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { ready, frame: vec![], left: 0 })
    }

    /// A cable by which `count` frames come (`u64::MAX` never end), each of `len` bytes with those of its
    /// header, as far as a frame can be so short or so long. They are for everybody, plain and all the same,
    /// and come as fast as the guest offers buffers; those that do not fit count.
    #[must_use]
    pub fn with_frames(mut self, count: u64, len: usize) -> Self {
        self.frame = vec![0; len.clamp(*FRAME_LEN.start(), *FRAME_LEN.end())];
        self.frame[..HEADER.len()].copy_from_slice(&HEADER);
        self.left = count;
        self
    }
}

impl NetBackend for Null {
    fn send(&mut self, _header: &NetHeader, _frame: &mut Segments) -> io::Result<()> {
        Ok(())
    }

    fn recv(&mut self, _header: &mut NetHeader, room: &mut Segments) -> io::Result<Received> {
        if self.left == 0 {
            return Ok(Received::Nothing);
        }
        self.left -= u64::from(self.left != u64::MAX);
        Ok(match self.frame.len() <= room.len() {
            true => Received::Frame(room.write(&self.frame)),
            false => Received::Lost,
        })
    }

    fn ready_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    fn offloads(&self) -> Features {
        HOST_OFFLOADS
    }
}
