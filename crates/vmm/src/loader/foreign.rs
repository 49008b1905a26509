//! Files that people take for kernels of ours.

use std::fmt;

use super::{bytes_at, u32_at};

/// What a file is, when it is not a kernel that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// A kernel for PCs (`HdrS` at 0x202; Linux, arch/x86/boot.rst).
    BzImage,
    /// A RISC-V `Image` (`RSC\x05` at 0x38).
    RiscV,
    /// An ELF file: `vmlinux`.
    Elf,
    /// U-Boot's wrapping of a kernel.
    UImage,
    /// A flattened device tree, maybe with a kernel in it (FIT).
    DeviceTree,
    /// Android's boot image.
    Android,
    /// A program for EFI firmware that is none of the above.
    Efi,
    /// None of these.
    Unknown,
}

impl Foreign {
    /// Names `file`, judged by its first bytes.
    pub fn identify(file: &[u8]) -> Self {
        match file {
            _ if bytes_at(file, 0x202) == Some(*b"HdrS") => Self::BzImage,
            _ if bytes_at(file, 0x38) == Some(*b"RSC\x05") => Self::RiscV,
            [0x7f, b'E', b'L', b'F', ..] => Self::Elf,
            [0x27, 0x05, 0x19, 0x56, ..] => Self::UImage,
            [0xd0, 0x0d, 0xfe, 0xed, ..] => Self::DeviceTree,
            [b'M', b'Z', ..] if is_pe(file) => Self::Efi,
            _ if file.starts_with(b"ANDROID!") => Self::Android,
            _ => Self::Unknown,
        }
    }
}

fn is_pe(file: &[u8]) -> bool {
    u32_at(file, 0x3c).and_then(|at| bytes_at(file, at as usize)) == Some(*b"PE\0\0")
}

/// What it is and what to give instead, in one line.
impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BzImage => "this is a kernel for x86 (bzImage): give one for ARM",
            Self::RiscV => "this is a kernel for RISC-V: give one for ARM",
            Self::Elf => {
                "this is an ELF file (vmlinux): give the arch/arm64/boot/Image or arch/arm/boot/zImage \
                 of the same build"
            }
            Self::UImage => {
                "this is a U-Boot uImage: take off its header first (tail -c +65 uImage > zImage)"
            }
            Self::DeviceTree => {
                "this is a device tree or FIT image: take the kernel out of it first (dumpimage)"
            }
            Self::Android => {
                "this is an Android boot image: take the kernel out of it first (unpack_bootimg)"
            }
            Self::Efi => "this is an EFI program and not a kernel for ARM",
            Self::Unknown => {
                "this is not a Linux kernel for ARM (an ARM64 Image, an ARM zImage, or one of them compressed)"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(at: usize, magic: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 0x400];
        file[at..at + magic.len()].copy_from_slice(magic);
        file
    }

    #[test]
    fn each_kind_is_told_by_its_magic_number() {
        for (at, magic, kind) in [
            (0x202, &b"HdrS"[..], Foreign::BzImage),
            (0x38, b"RSC\x05", Foreign::RiscV),
            (0, b"\x7fELF", Foreign::Elf),
            (0, b"\x27\x05\x19\x56", Foreign::UImage),
            (0, b"\xd0\x0d\xfe\xed", Foreign::DeviceTree),
            (0, b"ANDROID!", Foreign::Android),
            (0, b"MZ", Foreign::Unknown),
            (0, b"#!/bin/sh", Foreign::Unknown),
        ] {
            assert_eq!(Foreign::identify(&file(at, magic)), kind);
        }
        let mut program = file(0, b"MZ");
        program[0x3c] = 0x80;
        program[0x80..0x84].copy_from_slice(b"PE\0\0");
        assert_eq!(Foreign::identify(&program), Foreign::Efi);
    }
}
