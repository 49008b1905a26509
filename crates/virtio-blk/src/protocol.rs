//! Bytes of a block device to values and back (VIRTIO 1.4 §5.2.4, §5.2.6).

use std::mem::offset_of;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, virtio_blk_config, virtio_blk_outhdr,
};

/// Bytes of a sector: what positions count in, whatever the disk's own blocks are (VIRTIO 1.4 §5.2.4).
pub const SECTOR_SIZE: u64 = 512;

/// Bytes of a request's header.
pub(crate) const HEADER_SIZE: usize = size_of::<virtio_blk_outhdr>();

/// Bytes of the configuration space: up to and with the block size. The fields behind it belong to
/// features that are not offered.
pub(crate) const CONFIG_SIZE: usize = offset_of!(virtio_blk_config, physical_block_exp);

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
    /// Something that was not offered; its number.
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
            other => Self::Unsupported(other),
        }
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

/// The configuration space of a disk of `size` bytes that takes at most `seg_max` buffers a request.
pub(crate) fn config_space(size: u64, seg_max: u32) -> [u8; CONFIG_SIZE] {
    let mut bytes = [0; CONFIG_SIZE];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(offset_of!(virtio_blk_config, capacity), &(size / SECTOR_SIZE).to_le_bytes());
    put(offset_of!(virtio_blk_config, seg_max), &seg_max.to_le_bytes());
    put(offset_of!(virtio_blk_config, blk_size), &(SECTOR_SIZE as u32).to_le_bytes());
    bytes
}

/// The position on the disk of `len` bytes from `sector` on; `None` when they are not whole sectors, or
/// not all on a disk of `size` bytes.
pub(crate) fn locate(sector: u64, len: usize, size: u64) -> Option<u64> {
    let (offset, len) = (sector.checked_mul(SECTOR_SIZE)?, len as u64);
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
        let commands = [0, 1, 4, 8, 11, 0x8000_0000].map(|kind| Command::parse(header(kind, 7)));
        assert_eq!(
            commands,
            [
                Command::Read { sector: 7 },
                Command::Write { sector: 7 },
                Command::Flush,
                Command::GetId,
                Command::Unsupported(11),
                Command::Unsupported(0x8000_0000),
            ]
        );
    }

    #[test]
    fn the_configuration_has_its_fields_where_the_standard_puts_them() {
        let bytes = config_space(0x1_0000_0000 * 512 + 511, 254);
        let mut expected = [0; 24];
        expected[4] = 1; // capacity: 2³² sectors
        expected[12] = 254; // seg_max
        expected[21] = 2; // blk_size: 512
        assert_eq!(bytes, expected);
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
