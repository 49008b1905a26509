//! Kernel files from fuzz bytes.

use std::cell::RefCell;
use std::collections::HashMap;

use arbitrary::Arbitrary;
use cubie_vmm::Arch;

use super::compression;
use super::synthetic::{TEXT_OFFSET, ZImageParts, arm64_image, pack, raw_image, zboot};

/// Bytes of a raw kernel, and of what is unpacked from a bomb.
const MOST_IMAGE: u16 = 0x4000;
const BOMB: usize = 1 << 14;
/// Bombs in a file: a loader that tries them all is found out.
const MOST_BOMBS: u8 = 80;
/// `sub r8, r8, #0x208000` and `sub r8, r8, #0x8000`, as kernels have one of them, and something else.
const HEADS: [u32; 3] = [0xe248_8982, 0xe248_8902, 0xe1a0_0000];
/// What [`HEADS`] say.
const TEXT_OFFSETS: [Option<u32>; 3] = [Some(TEXT_OFFSET), Some(0x8000), None];

#[derive(Arbitrary, Debug)]
pub(super) struct File {
    content: Content,
    /// Around the kernel, and an EFI zboot image around that.
    packed: Option<(u8, bool)>,
    damage: Vec<Damage>,
    cut: Option<u16>,
    tail: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Content {
    Bytes(Vec<u8>),
    Raw {
        head: u8,
        len: u16,
    },
    Arm64 {
        text_offset: Word,
        image_size: Word,
    },
    ZImage(ZImage),
    /// A `zImage` of bombs, which are not as large as its table says.
    Bombs {
        compression: u8,
        count: u8,
        table: bool,
    },
}

#[derive(Arbitrary, Debug)]
struct ZImage {
    head: u8,
    len: u16,
    compression: u8,
    table: bool,
    bss: Option<u32>,
    unpacked_size: Option<u32>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Word {
    Any(u64),
    Pages(u16),
    Mib(u16),
}

/// Some of the file is changed.
#[derive(Arbitrary, Debug)]
struct Damage {
    at: u16,
    from_end: bool,
    bytes: [u8; 4],
    len: u8,
}

/// A kernel's architecture and its image.
type Whole = (Arch, Vec<u8>);

impl Word {
    fn value(self) -> u64 {
        match self {
            Self::Any(value) => value,
            Self::Pages(pages) => u64::from(pages) << 12,
            Self::Mib(mib) => u64::from(mib) << 20,
        }
    }
}

impl File {
    /// The file, and the kernel in it when nothing of it is odd.
    pub(super) fn make(&self) -> (Vec<u8>, Option<Whole>) {
        let (mut file, mut whole) = self.content.make();
        if let Some((number, efi)) = self.packed {
            file = packed(number, file);
            if efi {
                file = zboot(&file);
            }
        }
        for damage in self.damage.iter().filter(|damage| damage.len % 5 > 0) {
            damage.apply(&mut file);
            whole = None;
        }
        if let Some(cut) = self.cut {
            file.truncate(cut.into());
            whole = None;
        }
        if !self.tail.is_empty() {
            file.extend(&self.tail);
            // It belongs to a raw kernel, and ends no stream of lz4.
            whole = None;
        }
        (file, whole)
    }
}

impl Content {
    fn make(&self) -> (Vec<u8>, Option<Whole>) {
        match self {
            Self::Bytes(bytes) => (bytes.clone(), None),
            Self::Raw { head, len } => {
                let image = raw(*head, *len);
                let known = TEXT_OFFSETS[usize::from(*head) % HEADS.len()].is_some();
                (image.clone(), known.then_some((Arch::Armv7, image)))
            }
            Self::Arm64 { text_offset, image_size } => {
                let (text_offset, image_size) = (text_offset.value(), image_size.value());
                let image = arm64_image(text_offset, image_size);
                let says = image_size == 0 || (image_size < 4 << 30 && text_offset < 2 << 20);
                (image.clone(), says.then_some((Arch::Arm64, image)))
            }
            Self::ZImage(zimage) => zimage.make(),
            Self::Bombs { compression, count, table } => {
                let bomb = packed(*compression, vec![0; BOMB]);
                let payload = bomb.repeat(usize::from(count % MOST_BOMBS) + 1);
                let unpacked_size = BOMB as u32 + 1;
                let compression = super::compression(*compression);
                let parts =
                    ZImageParts { compression, payload, unpacked_size, bss: 0, table: *table };
                (parts.build(), None)
            }
        }
    }
}

impl ZImage {
    fn make(&self) -> (Vec<u8>, Option<Whole>) {
        let image = raw(self.head, self.len);
        let parts = ZImageParts {
            compression: compression(self.compression),
            payload: packed(self.compression, image.clone()),
            unpacked_size: self.unpacked_size.unwrap_or(image.len() as u32),
            bss: self.bss.unwrap_or(0x6_01c0),
            table: self.table,
        };
        let plain = self.table && self.bss.is_none() && self.unpacked_size.is_none();
        let code = TEXT_OFFSETS[usize::from(self.head) % HEADS.len()];
        let agree = code.is_none_or(|code| code == TEXT_OFFSET);
        (parts.build(), (plain && agree).then_some((Arch::Armv7, image)))
    }
}

impl Damage {
    fn apply(&self, file: &mut [u8]) {
        let at = usize::from(self.at);
        let at = if self.from_end { file.len().saturating_sub(at) } else { at };
        for (there, byte) in file.iter_mut().skip(at).zip(&self.bytes[..usize::from(self.len % 5)])
        {
            *there = *byte;
        }
    }
}

fn raw(head: u8, len: u16) -> Vec<u8> {
    raw_image(HEADS[usize::from(head) % HEADS.len()], usize::from(len % MOST_IMAGE))
}

/// Packed bytes, by what they were packed with and of.
type Packed = HashMap<(u8, Vec<u8>), Vec<u8>>;

thread_local! {
    /// What was packed lately: it costs more than all the rest.
    static PACKED: RefCell<Packed> = RefCell::default();
}

fn packed(number: u8, image: Vec<u8>) -> Vec<u8> {
    const MOST: usize = 100;
    let number = number % super::synthetic::ALL_COMPRESSIONS.len() as u8;
    PACKED.with_borrow_mut(|packed| {
        if packed.len() == MOST {
            packed.clear();
        }
        let entry = packed.entry((number, image));
        entry.or_insert_with_key(|(number, image)| pack(compression(*number), image)).clone()
    })
}
