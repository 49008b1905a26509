//! What VIRTIO 1.4 §5.2.6 makes of a chain.

use cubie_virtio_blk::Operation;

use super::{SECTOR, SECTORS};

/// Bytes of a request's header.
pub(super) const HEADER: usize = 16;

pub(super) const READ: u32 = 0;
pub(super) const WRITE: u32 = 1;
pub(super) const FLUSH: u32 = 4;
pub(super) const GET_ID: u32 = 8;
pub(super) const DISCARD: u32 = 11;
pub(super) const WRITE_ZEROES: u32 = 13;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

pub(super) enum Verdict {
    /// There is no room for a status.
    Mute,
    Refused(Status),
    Id,
    Host(Operation),
}

/// Judges a request by what its driver has written, and by the room that the device has for its answer.
pub(super) fn judge(readable: &[u8], room: usize, read_only: bool, through: bool) -> Verdict {
    let Some(room) = room.checked_sub(1) else { return Verdict::Mute };
    let Some((header, data)) = readable.split_first_chunk::<HEADER>() else {
        return Verdict::Refused(Status::IoError);
    };
    let header = u128::from_le_bytes(*header);
    let (kind, sector) = (header as u32, (header >> 64) as u64);
    let on_disk = |len: usize| {
        let sectors = (len / SECTOR) as u64;
        let fits = sector <= SECTORS && sectors <= SECTORS - sector;
        (len.is_multiple_of(SECTOR) && fits).then(|| sector * SECTOR as u64)
    };
    let operation = match kind {
        READ if data.is_empty() => on_disk(room).map(|offset| Operation::Read { offset }),
        WRITE if room == 0 && !read_only => {
            on_disk(data.len()).map(|offset| Operation::Write { offset, through })
        }
        READ | WRITE => None,
        FLUSH => Some(Operation::Flush),
        GET_ID => return Verdict::Id,
        // Not offered where nothing may be written.
        DISCARD | WRITE_ZEROES if !read_only => return judge_range(kind, data, room, through),
        _ => return Verdict::Refused(Status::Unsupported),
    };
    operation.map_or(Verdict::Refused(Status::IoError), Verdict::Host)
}

/// Of a request about a range of sectors, of which there is one at most. None of the disk's is too long.
fn judge_range(kind: u32, data: &[u8], room: usize, through: bool) -> Verdict {
    let Ok(range) = <[u8; 16]>::try_from(data).map(u128::from_le_bytes) else {
        return Verdict::Refused(Status::IoError);
    };
    let (sector, sectors, flags) = (range as u64, (range >> 64) as u32, (range >> 96) as u32);
    let unmap = flags == 1;
    let fits = sector <= SECTORS && u64::from(sectors) <= SECTORS - sector;
    let (offset, len) = (sector.wrapping_mul(SECTOR as u64), u64::from(sectors) * SECTOR as u64);
    match () {
        () if room > 0 => Verdict::Refused(Status::IoError),
        () if flags > 1 || kind == DISCARD && unmap => Verdict::Refused(Status::Unsupported),
        () if !fits => Verdict::Refused(Status::IoError),
        () if len == 0 => Verdict::Refused(Status::Ok),
        () if kind == DISCARD => Verdict::Host(Operation::Discard { offset, len }),
        () => Verdict::Host(Operation::WriteZeroes { offset, len, unmap, through }),
    }
}
