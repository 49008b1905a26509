//! From a kernel file to a guest that can start.
//!
//! Linux comes in many wrappings. [`Kernel::from_bytes`] tells them apart by their content, takes off
//! what it can, and says where the rest belongs and where to start it:
//!
//! | file | what happens |
//! |---|---|
//! | ARM64 `Image` | loaded as its header says |
//! | ARM `zImage` | unpacked here, started as a raw `Image`; where that cannot be done safely, started as it is |
//! | ARM raw `Image` | loaded at the TEXT_OFFSET read from its first instructions |
//! | any of them in gzip, xz, lzma, lz4 (legacy) or zstd; an EFI zboot image | unpacked here first |
//!
//! Everything else is refused with its name and what to give instead.
//!
//! 1. [`read_file`] brings kernel and initrd into memory, and says which option was wrong.
//! 2. [`Kernel::from_bytes`] identifies and unpacks.
//! 3. [`Layout::place`](crate::layout::Layout::place) finds addresses for device tree and initrd above [`Kernel::end`].
//! 4. [`load`] writes all three into guest memory, at the start and again at every reset.
//! 5. The first CPU starts at [`Kernel::entry`], MMU and caches off, with the device tree's address in
//!    x0 (ARM64), or in r2 with r0 = 0 and r1 = !0 (ARMv7).
//!
//! Unpacking costs host time once; a machine that is to start often can do it beforehand:
//! [`unpack_zimage`] gives the raw `Image`, which is a kernel file, too.

mod arm64;
mod compression;
mod file;
mod foreign;
mod kernel;
mod place;
mod raw;
#[cfg(test)]
mod synthetic;
mod zimage;

pub use compression::{Compression, UnpackError};
pub use file::{FileError, read_file};
pub use foreign::Foreign;
pub use kernel::{Format, Kernel, KernelError};
pub use place::{LoadError, load};
pub use zimage::unpack_zimage;

/// The most bytes that a kernel file may have, packed or unpacked: far above any kernel, and low
/// enough that a file made to explode when unpacked does no harm.
pub const KERNEL_LIMIT: usize = 512 << 20;

/// The little-endian bytes at `at`, if the file reaches that far.
fn bytes_at<const N: usize>(file: &[u8], at: usize) -> Option<[u8; N]> {
    file.get(at..)?.first_chunk().copied()
}

/// The little-endian word at `at`.
fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    bytes_at(file, at).map(u32::from_le_bytes)
}
