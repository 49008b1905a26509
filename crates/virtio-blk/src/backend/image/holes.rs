//! Places of a file that hold nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

/// Zeros that are there to be written.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What makes a hole, on file systems that have them; on a block device, a discard that leaves zeros.
pub(crate) const PUNCH: FallocateFlags =
    FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

/// What has zeros read and keeps the place.
const ZERO: FallocateFlags = FallocateFlags::ZERO_RANGE.union(FallocateFlags::KEEP_SIZE);

/// Gives the place of these bytes back to the file system, if it takes it.
pub(super) fn discard(file: &File, offset: u64, len: u64) -> io::Result<()> {
    match retry_on_intr(|| fallocate(file, PUNCH, offset, len)) {
        Err(error) if !is_refusal(error) => Err(error.into()),
        // Nothing has to happen.
        _ => Ok(()),
    }
}

/// Has these bytes read as zeros, with their place given back or kept.
pub(super) fn write_zeroes(file: &File, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
    let mode = zeroing(unmap);
    match retry_on_intr(|| fallocate(file, mode, offset, len)) {
        Ok(()) => Ok(()),
        Err(error) if is_refusal(error) => write_them(file, offset, len),
        Err(error) => Err(error.into()),
    }
}

/// Whether there are no such places, or none of this size: a block device has them in its own blocks only.
pub(crate) fn is_refusal(error: Errno) -> bool {
    matches!(error, Errno::OPNOTSUPP | Errno::INVAL)
}

/// How zeros are made.
pub(crate) fn zeroing(unmap: bool) -> FallocateFlags {
    if unmap { PUNCH } else { ZERO }
}

fn write_them(file: &File, mut offset: u64, len: u64) -> io::Result<()> {
    let end = offset + len;
    while offset < end {
        let piece = ZEROS.len().min((end - offset) as usize);
        file.write_all_at(&ZEROS[..piece], offset)?;
        offset += piece as u64;
    }
    Ok(())
}
