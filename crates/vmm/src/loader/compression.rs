//! The compressions that Linux packs kernels with.

use std::fmt;
use std::io::{self, Read};

use flate2::bufread::GzDecoder;
use lzma_rust2::{LzmaReader, XzReader};
use ruzstd::decoding::StreamingDecoder;

use super::u32_at;

/// A compression, recognised by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// The .xz file format; kernels use its BCJ filters.
    Xz,
    /// The older .lzma format («LZMA alone»).
    Lzma,
    /// The legacy frame of `lz4 -l`, the only one that Linux reads.
    Lz4,
    /// RFC 8878.
    Zstd,
}

/// The person's blame: the packed data is no good.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// More comes out than may.
    #[error("unpacks to more than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// Cut short, or changed.
    #[error("is damaged or cut short: {0}")]
    Damaged(#[from] io::Error),
}

/// Memory that a decoder may take for its dictionary, in KiB: `xz -9` needs 64 MiB.
const DICTIONARY_KIB: u32 = 256 << 10;

/// `lz4 -l` cuts its input into blocks of this many bytes.
const LZ4_BLOCK: usize = 8 << 20;

const LZ4_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

impl Compression {
    /// What `bytes` are packed with, judged by their start.
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ if bytes.starts_with(&LZ4_MAGIC) => Some(Self::Lz4),
            // No magic: the usual properties, a dictionary of a power of two, a size that is
            // unknown (all ones) or below 4 GiB.
            [0x5d, 0, 0, d2, d3, size @ ..] if u16::from_le_bytes([*d2, *d3]).is_power_of_two() => {
                let size = u64::from_le_bytes(*size.first_chunk()?);
                (size == u64::MAX || size >> 32 == 0).then_some(Self::Lzma)
            }
            _ => None,
        }
    }

    /// Unpacks the stream at the start of `bytes` and stops at its end; what follows is not looked at
    /// (but see [`Self::Lz4`], whose streams have no end of their own: only one word may follow).
    ///
    /// # Errors
    /// When more than `limit` bytes come out, and when the stream is damaged or incomplete.
    pub fn unpack(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, UnpackError> {
        let mut unpacked = Vec::new();
        self.unpack_to(&mut unpacked, bytes, limit)?;
        Ok(unpacked)
    }

    /// As [`Self::unpack`], appended to `to`, which after an error has as much as came out.
    pub(super) fn unpack_to(
        self,
        to: &mut Vec<u8>,
        bytes: &[u8],
        limit: usize,
    ) -> Result<(), UnpackError> {
        match self {
            Self::Gzip => read(to, GzDecoder::new(bytes), limit),
            Self::Xz => read(to, XzReader::new_mem_limit(bytes, false, DICTIONARY_KIB), limit),
            Self::Lzma => read(to, LzmaReader::new_mem_limit(bytes, DICTIONARY_KIB, None)?, limit),
            Self::Zstd => read(to, StreamingDecoder::new(bytes).map_err(io::Error::other)?, limit),
            Self::Lz4 => read_lz4(to, bytes, limit),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

fn read(to: &mut Vec<u8>, decoder: impl Read, limit: usize) -> Result<(), UnpackError> {
    let len = decoder.take(limit as u64 + 1).read_to_end(to).map_err(UnpackError::Damaged)?;
    if len > limit { Err(UnpackError::TooLarge { limit }) } else { Ok(()) }
}

/// Blocks, each after its size. Only the input's end ends them; Linux appends the unpacked size as
/// one more word to such a stream, which is then the last.
fn read_lz4(to: &mut Vec<u8>, bytes: &[u8], limit: usize) -> Result<(), UnpackError> {
    let mut left = limit;
    let mut block = vec![0; LZ4_BLOCK];
    let mut rest = bytes.get(LZ4_MAGIC.len()..).unwrap_or_default();
    while rest.len() > 4 {
        let size = u32_at(rest, 0).map_or(0, |size| size as usize);
        let packed = rest
            .get(4..)
            .and_then(|rest| rest.get(..size))
            .ok_or(io::ErrorKind::UnexpectedEof)
            .map_err(io::Error::from)?;
        let len = lz4_flex::block::decompress_into(packed, &mut block).map_err(io::Error::other)?;
        left = left.checked_sub(len).ok_or(UnpackError::TooLarge { limit })?;
        to.extend_from_slice(&block[..len]);
        rest = &rest[4 + size..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::{ALL_COMPRESSIONS, pack};
    use super::*;

    fn text() -> Vec<u8> {
        (0..20_000u32).flat_map(|n| n.to_string().into_bytes()).collect()
    }

    #[test]
    fn every_compression_is_recognised_and_unpacked() {
        for compression in ALL_COMPRESSIONS {
            let packed = pack(compression, &text());
            assert_eq!(Compression::detect(&packed), Some(compression));
            let unpacked = compression.unpack(&packed, text().len()).unwrap();
            assert_eq!(unpacked, text(), "{compression}");
        }
        assert_eq!(Compression::detect(&text()), None);
        assert_eq!(Compression::detect(&[]), None);
    }

    #[test]
    fn a_stream_that_has_an_end_may_be_followed_by_anything() {
        for compression in ALL_COMPRESSIONS {
            let mut packed = pack(compression, &text());
            let tail = if compression == Compression::Lz4 { 4 } else { 5000 };
            packed.resize(packed.len() + tail, 0xc8);
            let unpacked = compression.unpack(&packed, 1 << 20).unwrap();
            assert_eq!(unpacked, text(), "{compression}");
        }
    }

    #[test]
    fn unpacking_stops_at_its_limit() {
        for compression in ALL_COMPRESSIONS {
            let bomb = pack(compression, &vec![0; 1 << 20]);
            let error = compression.unpack(&bomb, (1 << 20) - 1).unwrap_err();
            assert!(matches!(error, UnpackError::TooLarge { .. }), "{compression}: {error}");
        }
    }

    #[test]
    fn a_stream_cut_short_is_an_error() {
        for compression in ALL_COMPRESSIONS {
            let packed = pack(compression, &text());
            for len in [packed.len() / 2, 16] {
                let error = compression.unpack(&packed[..len], 1 << 20).unwrap_err();
                assert!(matches!(error, UnpackError::Damaged(_)), "{compression}: {error}");
            }
        }
    }

    #[test]
    fn a_dictionary_beyond_all_measure_is_refused() {
        let mut packed = pack(Compression::Lzma, &text());
        packed[1..5].copy_from_slice(&0x8000_0000u32.to_le_bytes());
        assert_eq!(Compression::detect(&packed), Some(Compression::Lzma));
        assert!(Compression::Lzma.unpack(&packed, 1 << 20).is_err());
    }
}
