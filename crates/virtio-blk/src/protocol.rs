//! Bytes of a block device to values and back (VIRTIO 1.4 §5.2.4, §5.2.6).

mod config;

use cubie_virtio_core::Features;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX,
    VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK,
    VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID,
    VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP, virtio_blk_discard_write_zeroes, virtio_blk_outhdr,
};

pub(crate) use config::{Face, SEGMENTS, WRITEBACK, capacity, config_space};

// Features (VIRTIO 1.4 §5.2.3).
pub(crate) const F_SIZE_MAX: Features = Features::bit(VIRTIO_BLK_F_SIZE_MAX);
pub(crate) const F_SEG_MAX: Features = Features::bit(VIRTIO_BLK_F_SEG_MAX);
pub(crate) const F_RO: Features = Features::bit(VIRTIO_BLK_F_RO);
pub(crate) const F_BLK_SIZE: Features = Features::bit(VIRTIO_BLK_F_BLK_SIZE);
pub(crate) const F_FLUSH: Features = Features::bit(VIRTIO_BLK_F_FLUSH);
pub(crate) const F_TOPOLOGY: Features = Features::bit(VIRTIO_BLK_F_TOPOLOGY);
pub(crate) const F_CONFIG_WCE: Features = Features::bit(VIRTIO_BLK_F_CONFIG_WCE);
pub(crate) const F_MQ: Features = Features::bit(VIRTIO_BLK_F_MQ);
pub(crate) const F_DISCARD: Features = Features::bit(VIRTIO_BLK_F_DISCARD);
pub(crate) const F_WRITE_ZEROES: Features = Features::bit(VIRTIO_BLK_F_WRITE_ZEROES);

/// Bytes of a sector: what positions count in, whatever the disk's own blocks are (VIRTIO 1.4 §5.2.4).
pub const SECTOR_SIZE: u64 = 512;

/// Bytes of a request's header.
pub(crate) const HEADER_SIZE: usize = size_of::<virtio_blk_outhdr>();

/// Bytes that say which sectors a discard or a write of zeros is about.
pub(crate) const RANGE_SIZE: usize = size_of::<virtio_blk_discard_write_zeroes>();

/// Sectors that one discard may give back: 1 GiB.
pub(crate) const MOST_DISCARDED: u32 = 1 << 21;
/// Sectors that one request may fill with zeros: 32 MiB, which a host that knows no better writes.
pub(crate) const MOST_ZEROED: u32 = 1 << 16;

/// What a driver asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Read {
        sector: u64,
    },
    Write {
        sector: u64,
    },
    Flush,
    GetId,
    Discard,
    WriteZeroes,
    /// Something that is never offered; its number.
    Unsupported(u32),
}

impl Command {
    pub(crate) fn parse(header: [u8; HEADER_SIZE]) -> Self {
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        match u32::from_le_bytes([t0, t1, t2, t3]) {
            VIRTIO_BLK_T_IN => Self::Read { sector },
            VIRTIO_BLK_T_OUT => Self::Write { sector },
            VIRTIO_BLK_T_FLUSH => Self::Flush,
            VIRTIO_BLK_T_GET_ID => Self::GetId,
            VIRTIO_BLK_T_DISCARD => Self::Discard,
            VIRTIO_BLK_T_WRITE_ZEROES => Self::WriteZeroes,
            other => Self::Unsupported(other),
        }
    }
}

/// The sectors of a discard or a write of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) sector: u64,
    pub(crate) sectors: u32,
    pub(crate) unmap: bool,
    /// Flags that the standard does not know.
    pub(crate) unknown: bool,
}

impl Range {
    pub(crate) fn parse(bytes: [u8; RANGE_SIZE]) -> Self {
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = bytes;
        let flags = u32::from_le_bytes(flags);
        Self {
            sector: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            sectors: u32::from_le_bytes([n0, n1, n2, n3]),
            unmap: flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0,
            unknown: flags & !VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0,
        }
    }

    /// In bytes.
    pub(crate) fn len(&self) -> u64 {
        u64::from(self.sectors) * SECTOR_SIZE
    }
}

/// The last byte of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    Ok = VIRTIO_BLK_S_OK as u8,
    IoError = VIRTIO_BLK_S_IOERR as u8,
    Unsupported = VIRTIO_BLK_S_UNSUPP as u8,
}

/// The position on the disk of `len` bytes from `sector` on; `None` when they are not whole sectors, or
/// not all on a disk of `size` bytes.
pub(crate) fn locate(sector: u64, len: u64, size: u64) -> Option<u64> {
    let offset = sector.checked_mul(SECTOR_SIZE)?;
    let end = offset.checked_add(len)?;
    (len.is_multiple_of(SECTOR_SIZE) && end <= size / SECTOR_SIZE * SECTOR_SIZE).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u32, sector: u64) -> [u8; HEADER_SIZE] {
        let mut bytes = [0xee; HEADER_SIZE];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[8..].copy_from_slice(&sector.to_le_bytes());
        bytes
    }

    #[test]
    fn commands_are_known_by_their_number() {
        let kinds = [0, 1, 4, 8, 11, 13, 10, 14, 0x8000_0000];
        assert_eq!(
            kinds.map(|kind| Command::parse(header(kind, 7))),
            [
                Command::Read { sector: 7 },
                Command::Write { sector: 7 },
                Command::Flush,
                Command::GetId,
                Command::Discard,
                Command::WriteZeroes,
                Command::Unsupported(10),
                Command::Unsupported(14),
                Command::Unsupported(0x8000_0000),
            ]
        );
    }

    #[test]
    fn a_range_has_its_fields_where_the_standard_puts_them() {
        let mut bytes = [0; RANGE_SIZE];
        (bytes[5], bytes[10], bytes[12]) = (1, 2, 1);
        let range = Range { sector: 1 << 40, sectors: 2 << 16, unmap: true, unknown: false };
        assert_eq!(Range::parse(bytes), range);
        assert_eq!(range.len(), 2 << 25);
        for unknown in [12, 15] {
            let mut bytes = [0; RANGE_SIZE];
            bytes[unknown] = 2;
            let range = Range { sector: 0, sectors: 0, unmap: false, unknown: true };
            assert_eq!(Range::parse(bytes), range);
        }
    }

    #[test]
    fn what_is_not_on_the_disk_has_no_position() {
        assert_eq!(locate(1, 1024, 1536), Some(512));
        assert_eq!(locate(3, 0, 1536), Some(1536), "nothing, at the end");
        assert_eq!(locate(2, 1024, 1536), None);
        assert_eq!(locate(2, 512, 1535), None, "the last sector is not whole");
        assert_eq!(locate(0, 511, 1536), None);
        assert_eq!(locate(u64::MAX / 512 + 1, 512, u64::MAX), None, "an offset beyond 2⁶⁴");
        assert_eq!(locate(u64::MAX / 512, 1024, u64::MAX), None, "an end beyond 2⁶⁴");
    }
}
