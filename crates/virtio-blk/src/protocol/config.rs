//! The configuration space (VIRTIO 1.4 §5.2.4).

use std::mem::offset_of;

use virtio_bindings::virtio_blk::virtio_blk_config;

use super::{MOST_DISCARDED, MOST_ZEROED, SECTOR_SIZE};
use crate::Topology;

/// Bytes of the configuration space: the fields behind it belong to features that are not offered.
const SIZE: usize = offset_of!(virtio_blk_config, max_secure_erase_sectors);

/// Where the driver reads and writes whether writes may be kept in a cache. The bindings call the field by
/// its older name.
pub(crate) const WRITEBACK: usize = offset_of!(virtio_blk_config, wce);
/// Where the most buffers of payload a request are said.
pub(crate) const SEGMENTS: usize = offset_of!(virtio_blk_config, seg_max);

/// Bytes that a driver should put into one buffer. Longer ones are served all the same.
const SIZE_MAX: u32 = 1 << 20;

/// What a driver sees of a disk.
pub(crate) struct Face {
    /// Bytes of the disk.
    pub(crate) size: u64,
    /// Buffers of payload a request.
    pub(crate) seg_max: u32,
    pub(crate) topology: Topology,
    pub(crate) queues: u16,
    pub(crate) writeback: bool,
    pub(crate) discard: bool,
    pub(crate) write_zeroes: bool,
}

/// The configuration space of a disk with this face.
pub(crate) fn config_space(face: &Face) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(offset_of!(virtio_blk_config, capacity), &capacity(face.size));
    put(offset_of!(virtio_blk_config, size_max), &SIZE_MAX.to_le_bytes());
    put(SEGMENTS, &face.seg_max.to_le_bytes());
    put(offset_of!(virtio_blk_config, blk_size), &(SECTOR_SIZE as u32).to_le_bytes());
    // Blocks of this part are those of `blk_size`.
    let Topology { physical, best } = face.topology;
    let physical = physical.checked_next_power_of_two().unwrap_or(1 << 31);
    let exponent = physical.trailing_zeros().saturating_sub(SECTOR_SIZE.trailing_zeros()) as u8;
    let least: u16 = 1u16.checked_shl(exponent.into()).unwrap_or(1 << 15);
    put(offset_of!(virtio_blk_config, physical_block_exp), &[exponent]);
    put(offset_of!(virtio_blk_config, min_io_size), &least.to_le_bytes());
    let best = best / SECTOR_SIZE as u32;
    put(offset_of!(virtio_blk_config, opt_io_size), &best.to_le_bytes());
    put(WRITEBACK, &[face.writeback.into()]);
    put(offset_of!(virtio_blk_config, num_queues), &face.queues.to_le_bytes());
    if face.discard {
        let alignment = u32::from(least);
        put(offset_of!(virtio_blk_config, max_discard_sectors), &MOST_DISCARDED.to_le_bytes());
        put(offset_of!(virtio_blk_config, max_discard_seg), &1u32.to_le_bytes());
        put(offset_of!(virtio_blk_config, discard_sector_alignment), &alignment.to_le_bytes());
    }
    if face.write_zeroes {
        put(offset_of!(virtio_blk_config, max_write_zeroes_sectors), &MOST_ZEROED.to_le_bytes());
        put(offset_of!(virtio_blk_config, max_write_zeroes_seg), &1u32.to_le_bytes());
        put(offset_of!(virtio_blk_config, write_zeroes_may_unmap), &[face.discard.into()]);
    }
    bytes
}

/// The first field, of a disk of `size` bytes.
pub(crate) fn capacity(size: u64) -> [u8; 8] {
    (size / SECTOR_SIZE).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACE: Face = Face {
        size: 0x1_0000_0000 * 512 + 511,
        seg_max: 254,
        topology: Topology { physical: 4096, best: 1 << 17 },
        queues: 3,
        writeback: true,
        discard: true,
        write_zeroes: true,
    };

    #[test]
    fn the_configuration_has_its_fields_where_the_standard_puts_them() {
        let mut expected = [0; 60];
        expected[4] = 1; // capacity: 2³² sectors
        expected[10] = 0x10; // size_max: 1 MiB
        expected[12] = 254; // seg_max
        expected[21] = 2; // blk_size: 512
        expected[24] = 3; // physical_block_exp: 4096 = 512 × 2³
        expected[26] = 8; // min_io_size
        expected[29] = 1; // opt_io_size: 256 blocks
        expected[32] = 1; // writeback
        expected[34] = 3; // num_queues
        expected[38] = 0x20; // max_discard_sectors: 1 GiB
        expected[40] = 1; // max_discard_seg
        expected[44] = 8; // discard_sector_alignment
        expected[50] = 1; // max_write_zeroes_sectors: 32 MiB
        expected[52] = 1; // max_write_zeroes_seg
        expected[56] = 1; // write_zeroes_may_unmap
        assert_eq!(config_space(&FACE), expected);
    }

    #[test]
    fn what_is_not_offered_has_no_limits() {
        let plain = Face { discard: false, write_zeroes: false, ..FACE };
        assert_eq!(config_space(&plain)[36..], [0; 24]);
    }

    #[test]
    fn blocks_of_any_size_have_an_exponent() {
        for (physical, exponent, least) in
            [(0, 0, 1), (512, 0, 1), (520, 1, 2), (1 << 20, 11, 2048), (u32::MAX, 22, 1 << 15)]
        {
            let topology = Topology { physical, best: 0 };
            let bytes = config_space(&Face { topology, ..FACE });
            let min_io_size = u16::from_le_bytes([bytes[26], bytes[27]]);
            assert_eq!((bytes[24], min_io_size), (exponent, least), "{physical}");
        }
    }
}
