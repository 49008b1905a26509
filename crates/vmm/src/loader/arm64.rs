//! ARM64 kernels: the `Image`, and the EFI zboot image around one.

use super::kernel::{Format, Kernel, KernelError};
use super::{bytes_at, u32_at};
use crate::layout::RAM_BASE;

/// What a kernel from before 3.17 says nothing about: how much memory it needs after the file.
const UNKNOWN_BSS: u64 = 16 << 20;

/// Where a kernel's memory begins is a multiple of this, and its `text_offset` less.
const BASE_ALIGN: u64 = 2 << 20;

/// No kernel is larger: its code reaches its data by ADRP, 4 GiB to either side.
const IMAGE_MOST: u64 = 4 << 30;

/// The fields that matter of the first 64 bytes of an `Image` (Linux,
/// Documentation/arch/arm64/booting.rst, «Call the kernel image»).
pub(super) struct Header {
    text_offset: u64,
    /// Bytes from its start that the kernel needs, bss included; 0 from kernels that do not say.
    image_size: u64,
}

impl Header {
    /// The header of `file`; `None` if it is no `Image`.
    pub(super) fn parse(file: &[u8]) -> Option<Self> {
        (bytes_at(file, 0x38)? == *b"ARM\x64").then_some(())?;
        Some(Self {
            text_offset: bytes_at(file, 0x08).map(u64::from_le_bytes)?,
            image_size: bytes_at(file, 0x10).map(u64::from_le_bytes)?,
        })
    }

    /// The `Image` that this is the header of. Its base may be any multiple of 2 MiB, and the lower
    /// the better: it is the start of memory.
    pub(super) fn kernel(self, image: Vec<u8>) -> Result<Kernel, KernelError> {
        let len = image.len() as u64;
        if let Some(needs) = pe_len(&image).filter(|needs| *needs > len) {
            return Err(KernelError::Truncated { len, needs });
        }
        let (text_offset, size) = match (self.image_size, self.text_offset) {
            (0, _) => (0x8_0000, len + UNKNOWN_BSS),
            (value @ IMAGE_MOST.., _) => {
                return Err(KernelError::Header { field: "image_size", value });
            }
            (_, value @ BASE_ALIGN..) => {
                return Err(KernelError::Header { field: "text_offset", value });
            }
            (size, text_offset) => (text_offset, size.max(len)),
        };
        let load = RAM_BASE + text_offset;
        Ok(Kernel {
            format: Format::Arm64Image,
            unpacked: None,
            image,
            load,
            entry: load,
            end: load + size,
        })
    }
}

/// Bytes that the file must have by its EFI stub's section table (PE/COFF §3.3, §4): the only place
/// where an `Image` says so. `None` where it has no stub.
fn pe_len(file: &[u8]) -> Option<u64> {
    let pe = u32_at(file, 0x3c).filter(|at| *at != 0)? as usize;
    (bytes_at(file, pe)? == *b"PE\0\0").then_some(())?;
    let sections = u16::from_le_bytes(bytes_at(file, pe + 6)?);
    let optional = u16::from_le_bytes(bytes_at(file, pe + 20)?);
    let table = file.get(pe + 24 + usize::from(optional)..)?;
    table
        .chunks_exact(40)
        .take(sections.into())
        .filter_map(|section| {
            let (size, start) = (u32_at(section, 16)?, u32_at(section, 20)?);
            Some(u64::from(size) + u64::from(start))
        })
        .max()
}

/// The packed payload of an EFI zboot image (Linux, drivers/firmware/efi/libstub/zboot-header.S);
/// `None` if `file` is none.
pub(super) fn zboot_payload(file: &[u8]) -> Option<Result<&[u8], KernelError>> {
    (bytes_at(file, 0)? == *b"MZ\0\0zimg").then_some(())?;
    let start = u32_at(file, 8)? as usize;
    let end = start + u32_at(file, 12)? as usize;
    let (len, needs) = (file.len() as u64, end as u64);
    let truncated = KernelError::Truncated { len, needs };
    Some(file.get(start..end).ok_or(truncated))
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::{arm64_image, zboot};
    use super::*;

    fn kernel(image: Vec<u8>) -> Result<Kernel, KernelError> {
        Header::parse(&image).unwrap().kernel(image)
    }

    #[test]
    fn an_image_lies_where_its_header_says() {
        let image = arm64_image(0x8_0000, 0x123_4000);
        let kernel = kernel(image.clone()).unwrap();
        assert_eq!(kernel.format, Format::Arm64Image);
        assert_eq!(kernel.load, 0x4008_0000);
        assert_eq!(kernel.entry, kernel.load);
        assert_eq!(kernel.end, 0x4008_0000 + 0x123_4000);
        assert_eq!(kernel.image, image);
    }

    #[test]
    fn an_image_that_does_not_tell_its_size_has_the_old_offset_and_room() {
        let image = arm64_image(0, 0);
        let len = image.len() as u64;
        let kernel = kernel(image).unwrap();
        assert_eq!(kernel.load, 0x4008_0000);
        assert_eq!(kernel.end, 0x4008_0000 + len + UNKNOWN_BSS);
    }

    #[test]
    fn an_image_is_never_shorter_than_its_file() {
        let image = arm64_image(0, 1);
        let len = image.len() as u64;
        assert_eq!(kernel(image).unwrap().end, RAM_BASE + len);
    }

    #[test]
    fn a_header_that_asks_for_what_no_kernel_does_is_damaged() {
        for (text_offset, image_size, blamed) in [
            (2 << 20, 0x10_0000, "text_offset 0x200000"),
            (u64::MAX, 0x10_0000, "text_offset 0xffffffffffffffff"),
            (0, 4 << 30, "image_size 0x100000000"),
            (0, u64::MAX, "image_size 0xffffffffffffffff"),
        ] {
            let error = kernel(arm64_image(text_offset, image_size)).unwrap_err().to_string();
            assert!(error.contains("is damaged") && error.contains(blamed), "{error}");
        }
        let largest = kernel(arm64_image((2 << 20) - 1, (4 << 30) - 1)).unwrap();
        assert_eq!(largest.end, RAM_BASE + (2 << 20) + (4 << 30) - 2);
    }

    #[test]
    fn an_image_cut_short_is_noticed_by_its_section_table() {
        let mut image = arm64_image(0, 0x10_0000);
        let needs = pe_len(&image).unwrap();
        assert_eq!(needs, image.len() as u64);
        image.pop();
        let error = kernel(image).unwrap_err();
        assert!(
            matches!(error, KernelError::Truncated { len, needs: n } if len + 1 == n && n == needs)
        );
    }

    #[test]
    fn other_files_are_not_taken() {
        assert!(Header::parse(&[]).is_none());
        assert!(Header::parse(&[0; 0x100]).is_none());
        assert!(Header::parse(&b"ARM\x64".repeat(0x38 / 4)).is_none());
        assert!(zboot_payload(b"MZ\0\0zimg").is_none());
    }

    #[test]
    fn the_payload_of_a_zboot_image_is_found() {
        assert_eq!(zboot_payload(&zboot(b"packed")).unwrap().unwrap(), b"packed");
        let mut cut = zboot(b"packed");
        cut.pop();
        let error = zboot_payload(&cut).unwrap().unwrap_err();
        assert!(matches!(error, KernelError::Truncated { .. }));
    }
}
