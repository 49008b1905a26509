//! What a console needs from the host, and host ends.

mod memory;
mod stream;

use std::io;
use std::os::fd::BorrowedFd;

use cubie_virtq::Segments;

pub use memory::{Memory, Person};
pub use stream::Stream;

/// The host's end of a console: where the guest's input comes from, and where its output goes.
///
/// Owned by the console's worker while the device runs, by the device otherwise. No method blocks.
pub trait ConsoleBackend: Send + 'static {
    /// Moves input into `room`, from its front, and returns how many bytes: 0 when there will never
    /// be any more, [`io::ErrorKind::WouldBlock`] when there is none now, [`io::ErrorKind::Interrupted`]
    /// when it is to be tried again without an event. After an error `room` is as it was.
    fn read(&mut self, room: &mut Segments) -> io::Result<usize>;

    /// Takes output from the front of `data`, which is not empty, and returns how many bytes; fewer
    /// than there are when there is no more room. [`io::ErrorKind::WouldBlock`] when there is none
    /// now; [`io::ErrorKind::Interrupted`] when it is to be tried again without an event. After any other
    /// error, or 0, the console throws the rest of `data` away.
    fn write(&mut self, data: &mut Segments) -> io::Result<usize>;

    /// Becomes readable when [`ConsoleBackend::read`] is worth trying again; `None` when that never
    /// changes.
    fn input_ready(&self) -> Option<BorrowedFd<'_>>;

    /// Becomes writable when [`ConsoleBackend::write`] is worth trying again; `None` when there is
    /// always room. Any new event will do, such as a write to an eventfd. Another descriptor than that of
    /// the input, a duplicate if need be.
    fn output_ready(&self) -> Option<BorrowedFd<'_>>;
}
