//! Raw ARM kernels: the `Image` inside a `zImage`.
//!
//! Such a file is nothing but code. It has to lie at RAM base + TEXT_OFFSET, a constant of its build
//! (0x8000, or 0x208000 where the first 2 MiB are kept for somebody) that stands in no header of it. With
//! another one the kernel boots for seconds and then writes over itself. But its first routine computes
//! the start of memory from its own address, and in newer kernels the constant is there in an instruction
//! (Linux, arch/arm/kernel/head.S): `sub r8, r8, #TEXT_OFFSET @ PHYS_OFFSET`.

use super::kernel::{Format, Kernel};
use super::{Compression, u32_at};
use crate::layout::RAM_BASE;

/// Room for the bss of a kernel that does not tell its size. Debian's has 0.4 MiB.
pub(super) const UNKNOWN_BSS: u64 = 16 << 20;

/// How far into the image that instruction may lie, in bytes; seen at 0x60.
const HEAD: usize = 0x200;

/// `sub r8, r8, #…` (A32 encoding A1, always executed), without its immediate operand.
const SUB_R8_R8: u32 = 0xe248_8000;

/// A raw kernel and what is known about it.
pub(super) struct RawImage {
    pub(super) bytes: Vec<u8>,
    pub(super) text_offset: u32,
    /// Bytes after the image that the kernel clears and uses.
    pub(super) bss: Option<u32>,
}

impl RawImage {
    pub(super) fn kernel(self, unpacked: Option<Compression>) -> Kernel {
        let load = RAM_BASE + u64::from(self.text_offset);
        let bss = self.bss.map_or(UNKNOWN_BSS, u64::from);
        Kernel {
            format: Format::ArmImage,
            unpacked,
            load,
            entry: load,
            end: load + self.bytes.len() as u64 + bss,
            image: self.bytes,
        }
    }
}

/// TEXT_OFFSET of the raw kernel `image`, read from its code; `None` where the pattern is missing, that
/// is when `image` is no ARM kernel, an older one, or one of Thumb code.
pub(super) fn text_offset(image: &[u8]) -> Option<u32> {
    let first = u32_at(image, 0)?;
    if first >> 28 != 0xe {
        return None; // the first instruction of head.S has no condition
    }
    (0..HEAD)
        .step_by(4)
        .map_while(|at| u32_at(image, at))
        .filter(|word| word & !0xfff == SUB_R8_R8)
        .map(|word| (word & 0xff).rotate_right(2 * (word >> 8 & 0xf)))
        .find(|offset| is_text_offset(*offset))
}

/// Whether `offset` can be one: the page tables (0x4000 or 0x5000 bytes) lie below it, and all of
/// Linux's are 0x8000 beyond a multiple of 64 KiB (arch/arm/Makefile, `textofs-y`).
pub(super) fn is_text_offset(offset: u32) -> bool {
    offset & 0xffff == 0x8000 && offset < 0x0100_0000
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::raw_image;
    use super::*;

    #[test]
    fn text_offset_is_read_from_the_code() {
        assert_eq!(text_offset(&raw_image(0xe248_8902, 0)), Some(0x8000));
        assert_eq!(text_offset(&raw_image(0xe248_8982, 0)), Some(0x20_8000));
    }

    #[test]
    fn other_code_has_none() {
        let subtracts_from_r7 = raw_image(0xe247_7982, 0);
        let adds = raw_image(0xe288_8982, 0);
        let impossible = raw_image(0xe248_8004, 0);
        for image in [&subtracts_from_r7, &adds, &impossible, &vec![]] {
            assert_eq!(text_offset(image), None);
        }
        let mut conditional = raw_image(0xe248_8982, 0);
        conditional[3] = 0x0b;
        assert_eq!(text_offset(&conditional), None);
    }

    #[test]
    fn the_search_ends_with_the_head() {
        let mut image = vec![0xe1; HEAD];
        image.extend(0xe248_8982u32.to_le_bytes());
        assert_eq!(text_offset(&image), None);
        assert_eq!(text_offset(&image[4..]), Some(0x20_8000));
    }
}
