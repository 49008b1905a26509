//! Eventfds of the front-end's.
#![expect(unsafe_code, reason = "an eventfd that came by a socket becomes an EventFd")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use vmm_sys_util::eventfd::EventFd;

/// The eventfd that the front-end has sent; `None` if it is something else, such as a file or a pipe.
///
/// It blocks nobody from now on, also at its other end, which shares this property, and could undo it: a front-end
/// that does, and lets its counter overflow, holds the device's thread. (QEMU's storage daemon does the same.)
pub(crate) fn eventfd(fd: OwnedFd) -> io::Result<Option<EventFd>> {
    // What is in no file system has no type. Of those, all that can be written to take 8 bytes at once or
    // refuse.
    if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::Unknown {
        return Ok(None);
    }
    fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
    // SAFETY: the descriptor is open and owned, and nobody else has it after `into_raw_fd`.
    Ok(Some(unsafe { EventFd::from_raw_fd(fd.into_raw_fd()) }))
}

/// The descriptor of `event`.
fn borrow(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor stays open as long as `event` is borrowed.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

/// Whether it was written to since it was read last. Whoever shares it can have a read wait, but not this.
pub(crate) fn is_raised(event: &EventFd) -> bool {
    let mut all = [PollFd::from_borrowed_fd(borrow(event), PollFlags::IN)];
    poll(&mut all, Some(&Timespec::default())).is_ok_and(|count| count > 0)
}

/// Writes to one that somebody else shares, who may have made it wait.
pub(crate) fn raise(event: &EventFd) {
    let fd = borrow(event);
    let _ = fcntl_getfl(fd).and_then(|flags| fcntl_setfl(fd, flags | OFlags::NONBLOCK));
    // Whose counter is full is awake.
    let _ = event.write(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::net::UnixStream;

    #[test]
    fn an_eventfd_is_taken_and_blocks_nobody() {
        let theirs = EventFd::new(0).unwrap();
        // SAFETY: a new descriptor that nobody else has.
        let sent = unsafe { OwnedFd::from_raw_fd(theirs.try_clone().unwrap().into_raw_fd()) };
        let ours = eventfd(sent).unwrap().expect("an eventfd");
        ours.write(3).unwrap();
        assert_eq!(theirs.read().unwrap(), 3);
        assert_eq!(theirs.read().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn anything_else_is_not() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let (pipe, _end) = rustix::pipe::pipe().unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        for fd in [socket.into(), pipe, file.into()] {
            assert!(eventfd(fd).unwrap().is_none());
        }
    }
}
