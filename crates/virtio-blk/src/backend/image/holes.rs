//! Places of a file that hold nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Zeros that are there to be written.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What makes a hole, on file systems that have them; on a block device, a discard that leaves zeros.
pub(crate) const PUNCH: FallocateFlags =
    FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

/// What has zeros read and keeps the place.
const ZERO: FallocateFlags = FallocateFlags::ZERO_RANGE.union(FallocateFlags::KEEP_SIZE);

/// Gives the place of these bytes back to the file system, if it takes it.
pub(super) fn discard(file: &File, offset: u64, len: u64) -> io::Result<()> {
    match fallocate(file, PUNCH, offset, len) {
        // Nothing has to happen.
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Has these bytes read as zeros, with their place given back or kept.
pub(super) fn write_zeroes(file: &File, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
    let mode = zeroing(unmap);
    match fallocate(file, mode, offset, len) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP) => write_them(file, offset, len),
        Err(error) => Err(error.into()),
    }
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
