//! Kernel files of all kinds, whole and damaged, for machines of any size.
//!
//! Nothing panics, takes more memory than a kernel may have, or goes on for ever. What is taken for a kernel
//! lies where its boot protocol says, inside of memory, with device tree and initrd behind it, and memory then
//! holds these three and nothing else. A whole file gives exactly the kernel that it was made of.

mod file;
mod machine;
#[expect(dead_code, reason = "the loader's own tests use all of it")]
#[path = "../../../crates/vmm/src/loader/synthetic.rs"]
mod synthetic;

use arbitrary::{Arbitrary, Unstructured};
use cubie_vmm::Arch;
use cubie_vmm::layout::RAM_BASE;
use cubie_vmm::loader::{Compression, Format, Kernel, KernelError, UnpackError};

use file::File;
use machine::Machine;

#[derive(Arbitrary, Debug)]
struct Case {
    arm64: bool,
    machine: Machine,
    file: File,
}

/// Loads the file that `bytes` stand for, and names what has come of it; `None` when they stand for none.
///
/// # Panics
/// If anything of what this module promises does not hold.
pub fn play(bytes: &[u8]) -> Option<String> {
    let case = Case::arbitrary_take_rest(Unstructured::new(bytes)).ok()?;
    let arch = if case.arm64 { Arch::Arm64 } else { Arch::Armv7 };
    let (file, whole) = case.file.make();
    let kernel = Kernel::from_bytes(file, arch);
    if let Some((holds, inside)) = whole
        && holds == arch
    {
        let kernel = kernel.as_ref().unwrap_or_else(|error| panic!("a whole kernel: {error}"));
        assert!(kernel.image == inside, "{kernel:?}: not what was packed");
    }
    match kernel {
        Ok(kernel) => {
            assert_eq!(kernel.format.arch(), arch);
            follows_protocol(&kernel);
            let placed = case.machine.place(&kernel);
            let name = match kernel.unpacked {
                Some(_) => kernel.to_string().replace(',', ""),
                None => format!("{kernel} {placed}"),
            };
            Some(name.replace(' ', "-").to_lowercase())
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Some(refusal(&error).to_lowercase())
        }
    }
}

/// As a file's name.
fn refusal(error: &KernelError) -> String {
    let variant = |value: &dyn std::fmt::Debug| {
        format!("{value:?}").split([' ', '(']).next().unwrap_or_default().to_owned()
    };
    match error {
        KernelError::Foreign(foreign) => format!("foreign-{}", variant(foreign)),
        KernelError::Unpack { compression, source: UnpackError::TooLarge { .. } } => {
            format!("too-large-{compression}")
        }
        KernelError::Unpack { compression, .. } => format!("damaged-{compression}"),
        KernelError::Header { field, .. } => format!("header-{field}"),
        other => variant(other),
    }
}

fn u64_at(image: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(image[at..at + 8].try_into().expect("eight bytes"))
}

/// Linux, Documentation/arch/arm64/booting.rst and arch/arm/booting.rst.
fn follows_protocol(kernel: &Kernel) {
    let Kernel { format, image, load, entry, end, .. } = kernel;
    assert!(!image.is_empty() && *load >= RAM_BASE && entry == load, "{kernel:?}");
    let behind = load.checked_add(image.len() as u64).expect("an address");
    assert!(behind <= *end, "{kernel:?}");
    match format {
        Format::Arm64Image => {
            assert_eq!(image[0x38..0x3c], *b"ARM\x64");
            let (text_offset, image_size) = (u64_at(image, 8), u64_at(image, 0x10));
            let text_offset = if image_size == 0 { 0x8_0000 } else { text_offset };
            // «text_offset bytes from a 2MB aligned base address anywhere in usable system RAM»
            assert_eq!(*load, RAM_BASE + text_offset);
            assert!(text_offset < 2 << 20, "{kernel:?}");
            // «At least image_size bytes from the start of the image must be free»
            assert!(*end - load >= image_size);
        }
        Format::ArmImage => {
            // The first page tables lie below the kernel, 16 KiB or 20 KiB of them.
            let text_offset = load - RAM_BASE;
            assert!(text_offset >= 0x5000 && text_offset & 0xffff == 0x8000, "{kernel:?}");
        }
        Format::ArmZImage => {
            assert_eq!(image[0x24..0x28], 0x016f_2818u32.to_le_bytes());
            assert!(load.is_multiple_of(4));
        }
    }
}

/// The compressions by a number.
fn compression(number: u8) -> Compression {
    synthetic::ALL_COMPRESSIONS[usize::from(number) % synthetic::ALL_COMPRESSIONS.len()]
}
