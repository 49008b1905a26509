//! What may go wrong at a host end.

use rustix::io::Errno;

/// What goes wrong with one call of a host end; what that is to each kind of host end is said at
/// [`Faulty`](crate::Faulty).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The host refuses, and has done nothing: `EIO`, `ENOSPC`, `EAGAIN`, `EINTR`.
    Error(Errno),
    /// A part of it is done.
    Short,
    /// It is done so many turns of the device later, and what was asked for later may be done before.
    Late(u8),
    /// The host end is dead: this call fails, and so do all that follow, until
    /// [`Faults::off`](crate::Faults::off).
    Death,
}
