//! From descriptors to buffers: what the two rings have in common.

use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};

use crate::QueueError;
use crate::chain::Body;
use crate::memory::{MOST_TABLE, Table, Translator};
use crate::segments::Pieces;

/// Bytes of a descriptor, in either ring: 8 of address, 4 of length, and two fields of 2.
pub(crate) const DESC_SIZE: usize = 16;

pub(crate) const NEXT: u16 = VRING_DESC_F_NEXT as u16;
pub(crate) const WRITE: u16 = VRING_DESC_F_WRITE as u16;
pub(crate) const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;

/// A descriptor, read once.
#[derive(Clone, Copy)]
pub(crate) struct Descriptor {
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
    /// In a split ring the next descriptor's index, in a packed one the buffer's id.
    pub(crate) link: u16,
}

impl Descriptor {
    /// Is it a table of others? [`Walk::table`] has it then.
    #[inline]
    pub(crate) fn is_table(&self) -> bool {
        self.flags & INDIRECT != 0
    }

    /// Does another one follow?
    #[inline]
    pub(crate) fn has_next(&self) -> bool {
        self.flags & NEXT != 0
    }
}

/// A chain on its way into a body.
pub(crate) struct Walk<'a> {
    memory: &'a mut Translator,
    body: &'a mut Body,
    size: u16,
    left: u16,
    total: u32,
}

impl<'a> Walk<'a> {
    /// Begins a chain of at most `size` buffers.
    #[inline]
    pub(crate) fn new(size: u16, memory: &'a mut Translator, body: &'a mut Body) -> Self {
        Self { memory, body, size, left: size, total: 0 }
    }

    /// Descriptors that were added.
    #[inline]
    pub(crate) fn count(&self) -> u16 {
        self.size - self.left
    }

    /// Adds a descriptor's buffer, in as many pieces as the host needs.
    #[inline]
    pub(crate) fn add(&mut self, desc: Descriptor) -> Result<(), QueueError> {
        self.left = self.left.checked_sub(1).ok_or(QueueError::ChainLength(self.size))?;
        self.total = self.total.checked_add(desc.len).ok_or(QueueError::TotalLength)?;
        let out = if desc.flags & WRITE != 0 {
            &mut self.body.writable
        } else if self.body.writable.len() == 0 {
            &mut self.body.readable
        } else {
            return Err(QueueError::Order);
        };
        let len = desc.len as usize;
        if len == 0 {
            return Ok(());
        }
        match self.memory.whole(desc.address, len) {
            Some(host) => out.push(host, len),
            None => add_pieces(self.memory, desc.address, desc.len, out)?,
        }
        Ok(())
    }

    /// The table that an indirect descriptor names, and its number of descriptors.
    #[inline]
    pub(crate) fn table(
        &mut self,
        desc: Descriptor,
        negotiated: bool,
    ) -> Result<(Table, u16), QueueError> {
        let len = desc.len as usize;
        let wrong = match () {
            () if !negotiated => "the feature was not negotiated",
            () if desc.has_next() => "NEXT is set as well",
            () if len == 0 || !len.is_multiple_of(DESC_SIZE) => {
                "the table's length is not a multiple of 16"
            }
            () if len > MOST_TABLE => "the table has more than 65535 entries",
            () => {
                let missing = QueueError::Buffer { address: desc.address, len: desc.len };
                let window = self.memory.table(desc.address, len).ok_or(missing)?;
                return Ok((window, (len / DESC_SIZE) as u16));
            }
        };
        Err(QueueError::Indirect(wrong))
    }
}

/// Adds a buffer that reaches across regions, or into a hole.
#[cold]
fn add_pieces(
    memory: &mut Translator,
    mut address: u64,
    len: u32,
    out: &mut Pieces,
) -> Result<(), QueueError> {
    let hole = QueueError::Buffer { address, len };
    let mut left = len as usize;
    while left > 0 {
        let (host, here) = memory.piece(address, left).ok_or(hole)?;
        out.push(host, here);
        left -= here;
        if left > 0 {
            address = address.checked_add(here as u64).ok_or(hole)?;
        }
    }
    Ok(())
}
