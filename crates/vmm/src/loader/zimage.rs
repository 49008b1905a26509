//! ARM's `zImage`: a kernel, packed, behind a program that unpacks it.
//!
//! That program is slow in a guest that has just started, so its work is done here. Its header gives
//! its length; a table in newer ones (Linux, arch/arm/boot/compressed/vmlinux.lds.S, `.table`) gives
//! the unpacked size, the bss and TEXT_OFFSET of the kernel. Where the packed kernel starts stands
//! nowhere, so it is searched for. The program's own code contains the magic numbers of its
//! compression, so what is found counts only if it unpacks, to the size that the table says.

use super::kernel::{Format, Kernel, KernelError};
use super::raw::{self, RawImage, UNKNOWN_BSS};
use super::{Compression, KERNEL_LIMIT, u32_at};
use crate::layout::RAM_BASE;

/// `magic`, at 0x24 of every `zImage`.
const MAGIC: u32 = 0x016f_2818;

/// At 0x34 where the word after it is the table's offset.
const TABLE_MAGIC: u32 = 0x4545_4545;

/// Tag `KLSZ` of the table: sizes of the kernel.
const TAG_KERNEL_SIZE: u32 = 0x5a53_4c4b;

/// Places that look like a packed kernel and are tried, at most.
const CANDIDATES: usize = 64;

/// Where a `zImage` goes whose unpacked size is unknown: «above 32 MiB in order to avoid the need to
/// relocate» (Linux, Documentation/arch/arm/booting.rst, «Calling the kernel image»).
const UNKNOWN_SIZE: u64 = 32 << 20;

/// What a `zImage` uses behind itself: its bss, stack and 64 KiB of heap.
const WORKSPACE: u64 = 1 << 20;

/// A `zImage`, not yet unpacked.
pub(super) struct ZImage<'a> {
    bytes: &'a [u8],
    sizes: Sizes,
}

/// The table's tag `KLSZ`, as much of it as there is.
#[derive(Default)]
struct Sizes {
    /// Where in the file the unpacked size stands: the last word of the packed kernel.
    unpacked_at: Option<usize>,
    bss: Option<u32>,
    text_offset: Option<u32>,
}

impl Sizes {
    /// Tags are a length in words, a name and values; a length of 0 ends them.
    fn parse(file: &[u8]) -> Option<Self> {
        (u32_at(file, 0x34)? == TABLE_MAGIC).then_some(())?;
        let mut tag = file.get(u32_at(file, 0x38)? as usize..)?;
        loop {
            let words = u32_at(tag, 0)? as usize;
            if u32_at(tag, 4)? == TAG_KERNEL_SIZE {
                let value = |index| (index < words).then(|| u32_at(tag, 4 * index)).flatten();
                return Some(Self {
                    unpacked_at: value(2).map(|at| at as usize),
                    // Older kernels linked by LLVM's lld have an address here.
                    bss: value(3).filter(|bss| u64::from(*bss) <= UNKNOWN_BSS),
                    text_offset: value(4).filter(|offset| raw::is_text_offset(*offset)),
                });
            }
            tag = tag.get(4 * words.max(1)..)?;
        }
    }
}

impl<'a> ZImage<'a> {
    /// The `zImage` in `file`, without what somebody may have appended; `None` if there is none.
    ///
    /// # Errors
    /// When the file ends too early.
    pub(super) fn parse(file: &'a [u8]) -> Result<Option<Self>, KernelError> {
        if u32_at(file, 0x24) != Some(MAGIC) {
            return Ok(None);
        }
        let (start, end) = (u32_at(file, 0x28), u32_at(file, 0x2c));
        let needs = end.unwrap_or(0).saturating_sub(start.unwrap_or(0)).max(0x30);
        let (len, needs) = (file.len() as u64, u64::from(needs));
        let bytes = file.get(..needs as usize).ok_or(KernelError::Truncated { len, needs })?;
        let sizes = Sizes::parse(bytes).unwrap_or_default();
        Ok(Some(Self { bytes, sizes }))
    }

    /// The kernel inside, and what it was packed with. The error says why the `zImage` is better left
    /// to itself.
    pub(super) fn unpack(&self) -> Result<(RawImage, Compression), &'static str> {
        let (bytes, compression) =
            self.payload(KERNEL_LIMIT).ok_or("its payload was not found or is damaged")?;
        let text_offset = match (self.sizes.text_offset, raw::text_offset(&bytes)) {
            (Some(table), Some(code)) if table != code => {
                return Err("its table and its code disagree about TEXT_OFFSET");
            }
            (table, code) => table.or(code).ok_or("its TEXT_OFFSET was not found")?,
        };
        let bss = self.sizes.bss;
        let raw = RawImage { bytes, text_offset, bss };
        Ok((raw, compression))
    }

    /// The first thing in the file that unpacks to what the table promises, or to anything when there is no
    /// table. All that is tried may unpack to `left` bytes together: a file of bombs costs no more than one.
    fn payload(&self, mut left: usize) -> Option<(Vec<u8>, Compression)> {
        let size = self.unpacked_size();
        let limit = size.unwrap_or(KERNEL_LIMIT);
        let end = self.sizes.unpacked_at.filter(|_| size.is_some());
        let data = &self.bytes[..end.map_or(self.bytes.len(), |at| at + 4)];
        let candidates = (0..data.len())
            .filter_map(|at| Some((&data[at..], Compression::detect(&data[at..])?)))
            .take(CANDIDATES);
        let mut unpacked = Vec::new();
        for (packed, compression) in candidates {
            unpacked.clear();
            let done = compression.unpack_to(&mut unpacked, packed, limit.min(left));
            let len = unpacked.len();
            if done.is_ok() && len > 0 && size.is_none_or(|size| size == len) {
                return Some((unpacked, compression));
            }
            left = left.saturating_sub(len);
        }
        None
    }

    fn unpacked_size(&self) -> Option<usize> {
        u32_at(self.bytes, self.sizes.unpacked_at?).map(|size| size as usize)
    }

    /// The `zImage` as it is, above the place that it will unpack to, so that it need not move first.
    pub(super) fn self_unpacking_kernel(&self) -> Kernel {
        let image = self.bytes.to_vec();
        let bss = self.sizes.bss.map_or(UNKNOWN_BSS, u64::from);
        let (unpacked_end, moved) = match (self.sizes.text_offset, self.unpacked_size()) {
            (Some(offset), Some(size)) => (u64::from(offset) + size as u64, 0),
            // It may turn out larger; then it first moves up by as much as the kernel covers of it.
            _ => (UNKNOWN_SIZE, UNKNOWN_SIZE),
        };
        let load = RAM_BASE + unpacked_end.next_multiple_of(0x1_0000);
        let workspace_end = load + image.len() as u64 + moved + WORKSPACE;
        Kernel {
            format: Format::ArmZImage,
            unpacked: None,
            image,
            load,
            entry: load,
            end: workspace_end.max(RAM_BASE + unpacked_end + bss),
        }
    }
}

/// Unpacks a `zImage` into the raw `Image` inside, which [`Kernel::from_bytes`] takes as well: for
/// tools that prepare kernels, since it takes longer than everything else that the loader does.
///
/// # Errors
/// When `file` is no `zImage`, or the raw kernel does not itself say where it belongs.
pub fn unpack_zimage(file: &[u8]) -> Result<Vec<u8>, KernelError> {
    let zimage = ZImage::parse(file)?.ok_or(KernelError::Sealed("it is no zImage"))?;
    let (raw, _) = zimage.unpack().map_err(KernelError::Sealed)?;
    match raw::text_offset(&raw.bytes) {
        Some(_) => Ok(raw.bytes),
        None => Err(KernelError::Sealed("its code does not name TEXT_OFFSET")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::{
        ALL_COMPRESSIONS, TEXT_OFFSET, ZImageParts, pack, raw_image, zimage,
    };
    use super::*;

    const SUB: u32 = 0xe248_8982;
    const NOP: u32 = 0xe1a0_0000;

    fn raw() -> Vec<u8> {
        raw_image(SUB, 100_000)
    }

    #[test]
    fn the_payload_is_unpacked_whatever_the_compression() {
        for compression in ALL_COMPRESSIONS {
            let file = zimage(compression, &raw());
            assert_eq!(unpack_zimage(&file).unwrap(), raw(), "{compression}");
        }
    }

    #[test]
    fn sizes_come_from_the_table() {
        let file = zimage(Compression::Xz, &raw());
        let (unpacked, compression) = ZImage::parse(&file).unwrap().unwrap().unpack().unwrap();
        assert_eq!(compression, Compression::Xz);
        assert_eq!(unpacked.bss, Some(0x6_01c0));
        let kernel = unpacked.kernel(None);
        assert_eq!(kernel.end, RAM_BASE + u64::from(TEXT_OFFSET) + raw().len() as u64 + 0x6_01c0);
    }

    #[test]
    fn without_a_table_the_code_tells_text_offset() {
        // lz4 streams have no end, so that they need the table.
        for compression in ALL_COMPRESSIONS.into_iter().filter(|c| *c != Compression::Lz4) {
            let parts = ZImageParts { table: false, ..ZImageParts::new(compression, &raw()) };
            let file = parts.build();
            let (unpacked, _) = ZImage::parse(&file).unwrap().unwrap().unpack().unwrap();
            assert_eq!(unpacked.text_offset, TEXT_OFFSET);
            assert_eq!(unpacked.bytes, raw());
            assert!(unpacked.bss.is_none());
        }
    }

    #[test]
    fn without_the_code_the_table_tells_text_offset() {
        let image = raw_image(NOP, 1000);
        let file = zimage(Compression::Gzip, &image);
        let (unpacked, _) = ZImage::parse(&file).unwrap().unwrap().unpack().unwrap();
        assert_eq!(unpacked.text_offset, TEXT_OFFSET);
        assert!(matches!(unpack_zimage(&file), Err(KernelError::Sealed(_))));
    }

    #[test]
    fn what_cannot_be_trusted_unpacks_itself() {
        let base = ZImageParts::new(Compression::Lzma, &raw());
        let other_offset = raw_image(0xe248_8902, 1000);
        let mut damaged = base.clone();
        damaged.payload[2000..2100].fill(0x55);
        let wrong_size = ZImageParts { unpacked_size: 1000, ..base.clone() };
        let disagree = ZImageParts::new(Compression::Gzip, &other_offset);
        let thumb = raw_image(NOP, 1000);
        let no_offset = ZImageParts { table: false, ..ZImageParts::new(Compression::Gzip, &thumb) };
        for parts in [damaged, wrong_size, disagree, no_offset] {
            let file = parts.build();
            let kernel = Kernel::from_bytes(file.clone(), crate::Arch::Armv7).unwrap();
            assert_eq!(kernel.to_string(), "ARM zImage");
            assert_eq!(kernel.image, file);
        }
    }

    #[test]
    fn bombs_cost_no_more_than_a_kernel() {
        const BOMB: usize = 1 << 20;
        let mut payload = pack(Compression::Gzip, &vec![0; BOMB]).repeat(3);
        payload.extend(pack(Compression::Gzip, &raw()));
        let parts = ZImageParts { payload, ..ZImageParts::new(Compression::Gzip, &raw()) };
        let file = parts.build();
        let zimage = ZImage::parse(&file).unwrap().unwrap();
        // Of each, one byte more than the table promises comes out; and something of the magic numbers.
        let three = 3 * (raw().len() + 1);
        assert!(zimage.payload(three).is_none());
        assert_eq!(zimage.payload(3 * three).unwrap().0, raw());
    }

    #[test]
    fn nothing_is_no_kernel() {
        let file = ZImageParts::new(Compression::Gzip, &[]).build();
        let kernel = Kernel::from_bytes(file.clone(), crate::Arch::Armv7).unwrap();
        assert_eq!((kernel.to_string().as_str(), kernel.image), ("ARM zImage", file));
    }

    #[test]
    fn a_zimage_that_unpacks_itself_is_clear_of_its_kernel() {
        let file = zimage(Compression::Gzip, &raw());
        let kernel = ZImage::parse(&file).unwrap().unwrap().self_unpacking_kernel();
        let unpacked_end = RAM_BASE + u64::from(TEXT_OFFSET) + raw().len() as u64;
        assert!(kernel.load >= unpacked_end);
        assert!(kernel.end >= unpacked_end + 0x6_01c0);
        assert!(kernel.end >= kernel.load + file.len() as u64 + WORKSPACE);

        let parts = ZImageParts { table: false, ..ZImageParts::new(Compression::Gzip, &raw()) };
        let file = parts.build();
        let kernel = ZImage::parse(&file).unwrap().unwrap().self_unpacking_kernel();
        assert_eq!(kernel.load, RAM_BASE + UNKNOWN_SIZE);
        assert!(kernel.end >= kernel.load + UNKNOWN_SIZE);
    }

    #[test]
    fn what_follows_the_zimage_is_left_out() {
        let mut file = zimage(Compression::Gzip, &raw());
        let len = file.len();
        file.extend(b"\xd0\x0d\xfe\xed an appended device tree");
        assert_eq!(ZImage::parse(&file).unwrap().unwrap().bytes.len(), len);
    }

    #[test]
    fn a_zimage_cut_short_is_refused() {
        let file = zimage(Compression::Gzip, &raw());
        let needs = file.len() as u64;
        let error = ZImage::parse(&file[..1000]).err().unwrap();
        assert!(matches!(error, KernelError::Truncated { len: 1000, needs: n } if n == needs));
        assert!(ZImage::parse(&file[..0x28]).is_err());
        assert!(ZImage::parse(&file[..0x24]).unwrap().is_none());
    }

    #[test]
    fn a_table_of_nonsense_is_no_table() {
        let mut file = zimage(Compression::Gzip, &raw());
        for offset in [0u32, 0x40, u32::MAX, file.len() as u32 - 4] {
            file[0x38..0x3c].copy_from_slice(&offset.to_le_bytes());
            assert!(Sizes::parse(&file).is_none_or(|s| s.text_offset.is_some()));
        }
        let looks_like_an_address =
            ZImageParts { bss: 0xc1c8_6e98, ..ZImageParts::new(Compression::Gzip, &raw()) };
        let file = looks_like_an_address.build();
        assert_eq!(Sizes::parse(&file).unwrap().bss, None);
    }
}
