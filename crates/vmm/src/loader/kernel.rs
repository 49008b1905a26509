//! What a kernel file is and where it belongs.

use std::fmt;

use super::compression::{Compression, UnpackError};
use super::raw::{self, RawImage};
use super::zimage::ZImage;
use super::{Foreign, KERNEL_LIMIT, arm64};
use crate::Arch;

/// A form in which a kernel can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ARM64 `Image`.
    Arm64Image,
    /// ARM raw `Image`.
    ArmImage,
    /// ARM `zImage`, which unpacks itself in the guest.
    ArmZImage,
}

impl Format {
    /// What CPUs it is for.
    pub const fn arch(self) -> Arch {
        match self {
            Self::Arm64Image => Arch::Arm64,
            Self::ArmImage | Self::ArmZImage => Arch::Armv7,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arm64Image => "ARM64 Image",
            Self::ArmImage => "ARM Image",
            Self::ArmZImage => "ARM zImage",
        })
    }
}

/// A kernel ready to be loaded: one piece of bytes at one address.
#[derive(Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its form.
    pub format: Format,
    /// What it was packed with when it came; the loader has unpacked it.
    pub unpacked: Option<Compression>,
    /// The bytes to load.
    pub image: Vec<u8>,
    /// Guest physical address of the first.
    pub load: u64,
    /// Guest physical address of the first instruction.
    pub entry: u64,
    /// End of the guest memory that it needs, from the start of memory, before it knows what else is
    /// there: image, bss and where it unpacks itself.
    pub end: u64,
}

/// The person's blame: `--kernel` names no kernel for this guest.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A file without bytes.
    #[error("--kernel: the file is empty")]
    Empty,
    /// Less than its header promises.
    #[error(
        "--kernel: the file was cut short, it has {len} bytes and says it has {needs}: copy it again"
    )]
    Truncated {
        /// Bytes there are.
        len: u64,
        /// Bytes there should be.
        needs: u64,
    },
    /// An ARM64 `Image` whose header asks for what no kernel does.
    #[error("--kernel: the file is damaged, its header says {field} {value:#x}: copy it again")]
    Header {
        /// The field, as the boot protocol calls it.
        field: &'static str,
        /// What is in it.
        value: u64,
    },
    /// Not a kernel for ARM.
    #[error("--kernel: {0}")]
    Foreign(Foreign),
    /// A kernel for the other architecture.
    #[error("--kernel: this is an {kernel} kernel and the guest is {guest}: give --arch {}, or a kernel for {guest}", .kernel.name())]
    WrongArch {
        /// The kernel's.
        kernel: Arch,
        /// The guest's.
        guest: Arch,
    },
    /// Packed, and cannot be unpacked.
    #[error("--kernel: the {compression} data in the file {source}")]
    Unpack {
        /// With what.
        compression: Compression,
        /// Why not.
        source: UnpackError,
    },
    /// For [`unpack_zimage`](super::unpack_zimage): a `zImage` that has to be started as it is.
    #[error("this zImage cannot be unpacked beforehand, {0}: use it as it is")]
    Sealed(&'static str),
}

impl Kernel {
    /// Identifies the kernel in `file` for a guest of architecture `guest`, and unpacks it.
    ///
    /// # Errors
    /// When there is no kernel for that guest in it, or a damaged one.
    pub fn from_bytes(file: Vec<u8>, guest: Arch) -> Result<Self, KernelError> {
        let packed = match arm64::zboot_payload(&file) {
            Some(payload) => payload?,
            None => &file,
        };
        let Some(compression) = Compression::detect(packed) else {
            return Self::from_unpacked(file, guest);
        };
        let inner = compression
            .unpack(packed, KERNEL_LIMIT)
            .map_err(|source| KernelError::Unpack { compression, source })?;
        let mut kernel = Self::from_unpacked(inner, guest)?;
        kernel.unpacked.get_or_insert(compression);
        Ok(kernel)
    }

    /// As [`Self::from_bytes`], with no wrapping around the kernel. The architecture is judged before
    /// any time is spent on unpacking.
    fn from_unpacked(file: Vec<u8>, guest: Arch) -> Result<Self, KernelError> {
        if file.is_empty() {
            return Err(KernelError::Empty);
        }
        let is_for = |kernel| {
            let wrong = KernelError::WrongArch { kernel, guest };
            (kernel == guest).then_some(()).ok_or(wrong)
        };
        if let Some(header) = arm64::Header::parse(&file) {
            is_for(Arch::Arm64)?;
            return header.kernel(file);
        }
        if let Some(zimage) = ZImage::parse(&file)? {
            is_for(Arch::Armv7)?;
            return Ok(match zimage.unpack() {
                Ok((raw, compression)) => raw.kernel(Some(compression)),
                Err(_) => zimage.self_unpacking_kernel(),
            });
        }
        if let Some(text_offset) = raw::text_offset(&file) {
            is_for(Arch::Armv7)?;
            let (bytes, bss) = (file, None);
            let raw = RawImage { bytes, text_offset, bss };
            return Ok(raw.kernel(None));
        }
        Err(KernelError::Foreign(Foreign::identify(&file)))
    }
}

/// In one line, for people: `ARM Image, unpacked from xz`.
impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.format)?;
        match self.unpacked {
            Some(compression) => write!(f, ", unpacked from {compression}"),
            None => Ok(()),
        }
    }
}

/// Without the image's megabytes.
impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}, {} bytes at {:#x}", self.image.len(), self.load)?;
        write!(f, ", entry {:#x}, end {:#x}", self.entry, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::{
        ALL_COMPRESSIONS, TEXT_OFFSET, arm64_image, pack, raw_image, zboot, zimage,
    };
    use super::*;
    use crate::layout::RAM_BASE;

    const SUB: u32 = 0xe248_8982;

    fn text(file: Vec<u8>, guest: Arch) -> String {
        Kernel::from_bytes(file, guest).unwrap_err().to_string()
    }

    #[test]
    fn compressed_images_are_the_images_they_hold() {
        let image = arm64_image(0, 0x20_0000);
        let plain = Kernel::from_bytes(image.clone(), Arch::Arm64).unwrap();
        assert_eq!(plain.to_string(), "ARM64 Image");
        for compression in ALL_COMPRESSIONS {
            let packed = pack(compression, &image);
            for file in [zboot(&packed), packed] {
                let kernel = Kernel::from_bytes(file, Arch::Arm64).unwrap();
                assert_eq!(kernel.unpacked, Some(compression));
                let unpacked = None;
                assert_eq!(Kernel { unpacked, ..kernel }, plain);
            }
        }
    }

    #[test]
    fn a_zimage_is_started_as_the_image_it_holds() {
        let image = raw_image(SUB, 100_000);
        for compression in ALL_COMPRESSIONS {
            let kernel = Kernel::from_bytes(zimage(compression, &image), Arch::Armv7).unwrap();
            let name = format!("ARM Image, unpacked from {compression}");
            assert_eq!(kernel.to_string(), name);
            assert_eq!(kernel.image, image);
            assert_eq!(kernel.load, RAM_BASE + u64::from(TEXT_OFFSET));
            assert_eq!(kernel.entry, kernel.load);
        }
    }

    #[test]
    fn an_image_unpacked_beforehand_is_a_kernel_too() {
        let image = raw_image(SUB, 100_000);
        let kernel = Kernel::from_bytes(image.clone(), Arch::Armv7).unwrap();
        assert_eq!(kernel.to_string(), "ARM Image");
        assert_eq!(kernel.image, image);
        assert_eq!(kernel.load, RAM_BASE + u64::from(TEXT_OFFSET));
        assert!(kernel.end > kernel.load + image.len() as u64);
    }

    #[test]
    fn the_wrong_architecture_is_said_with_the_option_that_changes_it() {
        assert_eq!(
            text(arm64_image(0, 0), Arch::Armv7),
            "--kernel: this is an ARM64 kernel and the guest is ARMv7: give --arch arm64, or a kernel for ARMv7"
        );
        let raw = raw_image(SUB, 0);
        for file in [zimage(Compression::Gzip, &raw), raw] {
            assert_eq!(
                text(file, Arch::Arm64),
                "--kernel: this is an ARMv7 kernel and the guest is ARM64: give --arch armv7, or a kernel for ARM64"
            );
        }
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert_eq!(text(vec![], Arch::Arm64), "--kernel: the file is empty");
        let packed_text = pack(Compression::Gzip, b"hello");
        for file in [b"hello".to_vec(), packed_text] {
            assert_eq!(
                text(file, Arch::Arm64),
                "--kernel: this is not a Linux kernel for ARM (an ARM64 Image, an ARM zImage, or one of them compressed)"
            );
        }
        assert_eq!(
            text(b"\x7fELF....".to_vec(), Arch::Armv7),
            "--kernel: this is an ELF file (vmlinux): give the arch/arm64/boot/Image or arch/arm/boot/zImage of the same build"
        );
    }

    #[test]
    fn a_compressed_image_cut_short_is_refused() {
        let mut packed = pack(Compression::Gzip, &arm64_image(0, 0));
        packed.truncate(packed.len() / 2);
        let text = text(packed, Arch::Arm64);
        let start = "--kernel: the gzip data in the file is damaged or cut short: ";
        assert!(text.starts_with(start), "{text}");
    }

    #[test]
    fn no_start_of_a_kernel_file_does_harm() {
        let image = raw_image(SUB, 2000);
        let files = [arm64_image(0, 0), zimage(Compression::Xz, &image), zboot(b"x"), image];
        for file in files {
            for len in 0..file.len() {
                for guest in [Arch::Armv7, Arch::Arm64] {
                    if let Ok(kernel) = Kernel::from_bytes(file[..len].to_vec(), guest) {
                        assert!(kernel.end >= kernel.load + kernel.image.len() as u64);
                    }
                }
            }
        }
    }
}
