//! Small kernels made for the tests of this folder: right in all that a loader looks at.

use std::io::Write;

use lzma_rust2::{FilterType, LzmaOptions, LzmaWriter, XzOptions, XzWriter};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::Compression;

pub(super) const ALL_COMPRESSIONS: [Compression; 5] =
    [Compression::Gzip, Compression::Xz, Compression::Lzma, Compression::Lz4, Compression::Zstd];

/// What `0xe2488982` subtracts: TEXT_OFFSET of Debian's armmp-lpae.
pub(super) const TEXT_OFFSET: u32 = 0x20_8000;

/// As the tools pack that a kernel's build calls: xz with the filter for ARM code.
pub(super) fn pack(compression: Compression, data: &[u8]) -> Vec<u8> {
    match compression {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Xz => {
            let mut options = XzOptions::with_preset(1);
            options.prepend_pre_filter(FilterType::BcjArm, 0);
            let mut encoder = XzWriter::new(vec![], options).unwrap();
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Lzma => {
            let options = LzmaOptions::with_preset(1);
            let mut encoder = LzmaWriter::new_use_header(vec![], &options, None).unwrap();
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Lz4 => {
            let mut packed = 0x184c_2102u32.to_le_bytes().to_vec();
            for block in data.chunks(8 << 20) {
                let block = lz4_flex::block::compress(block);
                packed.extend((block.len() as u32).to_le_bytes());
                packed.extend(block);
            }
            packed
        }
        Compression::Zstd => compress_to_vec(data, CompressionLevel::Fastest),
    }
}

/// A raw ARM kernel with `head` at 0x60 and `len` more bytes, which do not compress to nothing.
pub(super) fn raw_image(head: u32, len: usize) -> Vec<u8> {
    let mut image = 0xe1a0_0000u32.to_le_bytes().repeat(0x18);
    image.extend(head.to_le_bytes());
    let mut noise = 1u32;
    image.extend((0..len).map(|_| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 28) as u8
    }));
    image
}

/// What a `zImage` is built of.
#[derive(Clone)]
pub(super) struct ZImageParts {
    pub(super) compression: Compression,
    pub(super) payload: Vec<u8>,
    pub(super) unpacked_size: u32,
    pub(super) bss: u32,
    pub(super) table: bool,
}

impl ZImageParts {
    pub(super) fn new(compression: Compression, image: &[u8]) -> Self {
        Self {
            compression,
            payload: pack(compression, image),
            unpacked_size: image.len() as u32,
            bss: 0x6_01c0,
            table: true,
        }
    }

    /// Header, table, magic numbers of every compression as the unpacking program has them, the packed
    /// kernel with its size as last word, and the program's data.
    pub(super) fn build(&self) -> Vec<u8> {
        const TABLE: u32 = 0x40;
        let decoys = b"\x1f\x8b\x08\0\xfd7zXZ\0\x02\x21\x4c\x18\x28\xb5\x2f\xfd\x5d\0\0\0\x04\xff\xff\xff\xff\xff\xff\xff\xff\0\0";
        let mut payload = self.payload.clone();
        if self.compression != Compression::Gzip {
            payload.extend(self.unpacked_size.to_le_bytes()); // gzip has it anyway
        } else {
            let at = payload.len() - 4;
            payload[at..].copy_from_slice(&self.unpacked_size.to_le_bytes());
        }
        let payload_at = TABLE as usize + 8 * 4 + decoys.len();
        let size_at = (payload_at + payload.len() - 4) as u32;
        let end = (payload_at + payload.len() + 3000) as u32;
        let table = if self.table { 0x4545_4545 } else { 0 };
        let header = [0x016f_2818, 0, end, 0x0403_0201, table, TABLE, 0];
        let tags = [2, 0x1234_5678, 6, 0x5a53_4c4b, size_at, self.bss, TEXT_OFFSET, 0x1_0000];
        let words = [0xe1a0_0000; 9].into_iter().chain(header).chain(tags);
        let mut file: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        file.extend(decoys);
        file.extend(payload);
        file.resize(end as usize, 0x77);
        file
    }
}

/// The `zImage` of the raw kernel `image`, as newer kernels are built.
pub(super) fn zimage(compression: Compression, image: &[u8]) -> Vec<u8> {
    ZImageParts::new(compression, image).build()
}

/// An ARM64 `Image` of 8 KiB with one section in its EFI stub's header, which ends with the file.
pub(super) fn arm64_image(text_offset: u64, image_size: u64) -> Vec<u8> {
    let mut image = raw_image(0, 0x2000 - 0x64);
    image[..0x100].fill(0);
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x00, b"MZ");
    put(0x08, &text_offset.to_le_bytes());
    put(0x10, &image_size.to_le_bytes());
    put(0x38, b"ARM\x64");
    put(0x3c, &0x40u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x46, &1u16.to_le_bytes()); // sections
    put(0x54, &0x20u16.to_le_bytes()); // optional header
    put(0x78 + 16, &0x1000u32.to_le_bytes()); // bytes in the file
    put(0x78 + 20, &0x1000u32.to_le_bytes()); // where
    image
}

/// An EFI zboot image around `payload`.
pub(super) fn zboot(payload: &[u8]) -> Vec<u8> {
    let mut image = b"MZ\0\0zimg".to_vec();
    image.extend(0x40u32.to_le_bytes());
    image.extend((payload.len() as u32).to_le_bytes());
    image.resize(0x40, 0);
    image.extend(payload);
    image
}
