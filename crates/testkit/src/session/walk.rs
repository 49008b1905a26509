//! Chains in memory, followed as a device does that believes everything, up to a bound.

use cubie_virtq::driver::Buffer;
use vm_memory::GuestMemoryMmap;

use super::memory::{copy, load};
use super::step::{Bytes, Chain, Lent, Piece};

/// Bytes of a descriptor.
pub(super) const DESCRIPTOR: u64 = 16;
/// Flags of a descriptor (VIRTIO 1.4 §2.7.5, §2.8.13).
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// More than so many bytes of one chain are not copied.
pub(super) const MOST: usize = 32 << 20;

/// A descriptor of either ring, field by field.
#[derive(Clone, Copy)]
pub(super) struct Raw {
    bytes: [u8; DESCRIPTOR as usize],
    packed: bool,
}

impl Raw {
    pub(super) fn read(memory: &GuestMemoryMmap, at: u64, packed: bool) -> Self {
        Self { bytes: load(memory, at), packed }
    }

    /// A packed descriptor of this buffer, with flags that are nobody's yet.
    pub(super) fn buffer(buffer: &Buffer, more: bool, id: u16) -> Self {
        let flags = if buffer.writable { WRITE } else { 0 } | if more { NEXT } else { 0 };
        Self::packed(buffer.address, buffer.len, id, flags)
    }

    /// One of a table with so many entries.
    pub(super) fn table(at: u64, entries: usize, id: u16) -> Self {
        Self::packed(at, DESCRIPTOR as u32 * entries as u32, id, INDIRECT)
    }

    fn packed(address: u64, len: u32, id: u16, flags: u16) -> Self {
        let upper = u64::from(len) | u64::from(id) << 32 | u64::from(flags) << 48;
        let bytes = (u128::from(address) | u128::from(upper) << 64).to_le_bytes();
        Self { bytes, packed: true }
    }

    /// With these flags as well.
    pub(super) fn with_flags(mut self, flags: u16) -> Self {
        let both = (self.flags() | flags).to_le_bytes();
        self.bytes[14..].copy_from_slice(&both);
        self
    }

    fn field(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    pub(super) fn address(&self) -> u64 {
        u64::from_le_bytes(self.bytes[..8].try_into().expect("eight bytes"))
    }

    pub(super) fn len(&self) -> u32 {
        u32::from_le_bytes(self.bytes[8..12].try_into().expect("four bytes"))
    }

    pub(super) fn flags(&self) -> u16 {
        self.field(if self.packed { 14 } else { 12 })
    }

    /// The buffer id of a packed ring, the next descriptor of a split one.
    pub(super) fn link(&self) -> u16 {
        self.field(if self.packed { 12 } else { 14 })
    }

    pub(super) fn is_writable(&self) -> bool {
        self.has(WRITE)
    }

    fn has(&self, flag: u16) -> bool {
        self.flags() & flag != 0
    }
}

/// A chain that is being followed.
pub(super) struct Walk<'a> {
    memory: &'a GuestMemoryMmap,
    packed: bool,
    chain: Chain,
    copied: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(memory: &'a GuestMemoryMmap, packed: bool) -> Self {
        Self { memory, packed, chain: Chain::default(), copied: 0 }
    }

    pub(super) fn end(self, id: u16) -> Chain {
        Chain { id, ..self.chain }
    }

    /// Takes the descriptor at `at`, and the table that it may stand for. True when another one follows in
    /// the ring.
    pub(super) fn descriptor(&mut self, at: u64, raw: Raw) -> bool {
        self.chain.descriptors.push(Piece { at, bytes: Bytes(raw.bytes.to_vec()) });
        if raw.has(INDIRECT) {
            self.table(raw);
        } else {
            self.buffer(raw);
        }
        raw.has(NEXT) && !raw.has(INDIRECT)
    }

    fn table(&mut self, raw: Raw) {
        let bytes = copy(self.memory, raw.address(), raw.len().min(1 << 20) as usize);
        let entries: Vec<Raw> = bytes
            .chunks_exact(DESCRIPTOR as usize)
            .map(|entry| Raw { bytes: entry.try_into().expect("sixteen"), packed: self.packed })
            .collect();
        let mut next = 0;
        // No more than there are entries, whatever their links say.
        for nth in 0..entries.len() {
            let Some(entry) = entries.get(next) else { break };
            self.buffer(*entry);
            match self.packed {
                true => next = nth + 1,
                false if entry.has(NEXT) => next = entry.link().into(),
                false => break,
            }
        }
        self.chain.descriptors.push(Piece { at: raw.address(), bytes: Bytes(bytes) });
    }

    fn buffer(&mut self, raw: Raw) {
        let (at, len) = (raw.address(), raw.len());
        let readable = (!raw.has(WRITE)).then(|| {
            let bytes = copy(self.memory, at, (len as usize).min(MOST - self.copied));
            self.copied += bytes.len();
            Bytes(bytes)
        });
        self.chain.buffers.push(Lent { at, len, readable });
    }
}
