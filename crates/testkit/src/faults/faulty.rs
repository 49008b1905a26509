//! A host end that fails as planned.

use std::io;

use cubie_virtio_blk::Request;

use super::ready::Ready;
use crate::{Errno, Fault, Faults};

/// A host end in front of another one, which makes a [`Faults`] come true: put it into the device instead of
/// the other. It is a `BlockBackend`, `NetBackend`, `ConsoleBackend` or `EntropySource` if that is, whoever
/// made it.
///
/// | fault | disk | network | console | entropy |
/// |---|---|---|---|---|
/// | [`Fault::Error`] | the request fails | nothing is sent or received | nothing is read or written | nothing is given |
/// | [`Fault::Short`] | a read has filled half of the buffers, then it fails; a write or flush fails | a frame is cut: one to the host is refused, one from it is lost | half of it, at least a byte | half of it is filled, then it fails |
/// | [`Fault::Late`] | done later, others may overtake it | as `EAGAIN` | as `EAGAIN` | as `EAGAIN` |
/// | [`Fault::Death`] | `ENODEV`, also for what is late | `ENODEV` | `EPIPE` for output, `EIO` for input | `ENODEV` |
///
/// After an error that makes the device wait, the host end is ready again at once, and says so by its
/// descriptor; the dead say nothing, and neither does a console of `EINTR`, as its trait has it. Frames and
/// bytes keep their order, since these traits know no other: only requests of a disk are finished in any.
///
/// ```
/// use std::io;
/// use std::time::Duration;
/// use cubie_testkit::{Descriptor, Errno, Fault, Faults, Faulty, Guest, RawDriver};
/// use cubie_virtio_blk::{Blk, MemoryDisk};
/// use cubie_virtio_core::Features;
///
/// let faults = Faults::storm(Fault::Error(Errno::NOSPC), 1);
/// let disk = Faulty::new(MemoryDisk::new(vec![0; 4096]), &faults);
/// let guest = Guest::new();
/// let slot = guest.plug(Box::new(Blk::new(disk, "full".parse().unwrap())));
/// let mut driver = RawDriver::new(&slot, Features::default(), &[8]);
/// let buffer = guest.buffer(16 + 512 + 1).0; // of zeros: read sector 0
/// let read = [Descriptor::readable(buffer, 16), Descriptor::writable(buffer + 16, 513)];
/// for written in [0, 513] {
///     driver.offer(0, &read);
///     assert_eq!(driver.wait_used(0, Duration::from_secs(10)).written, written, "{faults:?}");
/// }
/// ```
#[derive(Debug)]
pub struct Faulty<B> {
    pub(super) inner: B,
    pub(super) faults: Faults,
    pub(super) input: Ready,
    pub(super) output: Ready,
    /// A disk's requests that are late, with the turns that are left.
    pub(super) late: Vec<(u8, Request)>,
}

impl<B> Faulty<B> {
    /// Puts `faults` in front of `inner`.
    pub fn new(inner: B, faults: &Faults) -> Self {
        let (input, output) = (Ready::default(), Ready::default());
        Self { inner, faults: faults.clone(), input, output, late: vec![] }
    }

    /// What the next call meets, where nothing can be overtaken.
    pub(super) fn meet(&self, operation: &'static str) -> Option<Met> {
        Some(match self.faults.next(operation)? {
            Fault::Error(errno) => Met::Error(errno),
            Fault::Late(_) => Met::Error(Errno::AGAIN),
            Fault::Short => Met::Short,
            Fault::Death => Met::Death,
        })
    }

    /// The error of a host end that is ready again.
    pub(super) fn refuse(&self, errno: Errno) -> io::Error {
        self.faults.wake();
        errno.into()
    }
}

/// A fault of a host end that keeps the order.
pub(super) enum Met {
    Error(Errno),
    Short,
    Death,
}
