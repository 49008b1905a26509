//! Who else uses an image.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

// Locked bytes of an image, as QEMU has them (block/file-posix.c): one for each thing that its holder does, and
// one for each that nobody else may do meanwhile. They say nothing of the image's bytes at these places.
const DOES: i64 = 100;
const FORBIDS: i64 = 200;

// What one may do with an image (QEMU, include/block/block-common.h).
const READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

/// Another open file has a lock that excludes this one's.
pub(super) struct InUse;

/// Locks `file` until it is closed, against all programs that lock images in QEMU's way: nobody else writes it or
/// makes it longer, and who only reads it lets others do so. A file system without locks is no reason to refuse a
/// disk.
pub(super) fn lock(file: &File, read_only: bool) -> Result<(), InUse> {
    let does = if read_only { &[READ][..] } else { &[READ, WRITE] };
    let forbids = [WRITE, RESIZE];
    // First ours, then a look at those of others: of two that come at once, none is missed by both.
    let ours = does.iter().map(|what| DOES + what).chain(forbids.map(|what| FORBIDS + what));
    let others = does.iter().map(|what| FORBIDS + what).chain(forbids.map(|what| DOES + what));
    let locked = ours.map(|byte| hold(file, byte)).collect::<Result<Vec<_>, _>>();
    match locked {
        // Somebody who locks in another way, or there are no locks.
        Err(Errno::EAGAIN | Errno::EACCES) => return Err(InUse),
        Err(_) => return Ok(()),
        Ok(_) => {}
    }
    let mut others = others;
    if others.any(|byte| is_held(file, byte)) { Err(InUse) } else { Ok(()) }
}

/// Of the open file itself, not of the process: so two disks of one VM exclude each other as well, and nothing is
/// lost when another descriptor of the file is closed (Linux, fcntl(2), «Open file description locks»).
fn hold(file: &File, byte: i64) -> nix::Result<()> {
    let lock = flock(libc::F_RDLCK, byte);
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&lock)).map(drop)
}

fn is_held(file: &File, byte: i64) -> bool {
    let mut lock = flock(libc::F_WRLCK, byte);
    let asked = fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut lock));
    asked.is_ok() && i32::from(lock.l_type) != libc::F_UNLCK
}

fn flock(kind: libc::c_int, byte: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}
