//! A driver that is played: it lends what another one has lent.

use std::sync::atomic::Ordering;

use vm_memory::{Bytes as _, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::Ring;
use crate::session::step::{Chain, Piece};
use crate::session::walk::DESCRIPTOR;

/// What buffers hold before the device writes them: no device does that by chance.
const POISON: u8 = 0xee;
/// Of a buffer, no more than this is poisoned.
const MOST: usize = 16 << 20;
/// The index of an available ring, and the flags of a packed descriptor: what shows the device a chain.
const INDEX: usize = 2;
const FLAGS: usize = 14;

impl Ring {
    /// All its parts are zero, as drivers make them before the device gets them.
    pub(crate) fn clear(&self, memory: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
        let size = usize::from(self.params.size);
        let used = if self.packed { 4 } else { 6 + 8 * size };
        let parts = [
            (self.params.desc, DESCRIPTOR as usize * size),
            (self.params.driver, self.area_len()),
            (self.params.device, used),
        ];
        parts
            .into_iter()
            .try_for_each(|(at, len)| memory.write_slice(&vec![0; len], GuestAddress(at)))
    }

    /// Lends these chains: first what they consist of, then what shows them to the device.
    pub(crate) fn lend_again(
        &mut self,
        memory: &GuestMemoryMmap,
        area: &[Piece],
        chains: &[Chain],
    ) -> Result<(), GuestMemoryError> {
        for chain in chains {
            self.lend_chain(memory, chain)?;
        }
        self.area.resize(self.area_len(), 0);
        for Piece { at, bytes } in area {
            let start = usize::try_from(*at).unwrap_or(usize::MAX);
            let room = self.area.get_mut(start..).unwrap_or_default();
            room.iter_mut().zip(&bytes.0).for_each(|(old, new)| *old = *new);
        }
        self.publish(memory, chains)
    }

    fn lend_chain(
        &mut self,
        memory: &GuestMemoryMmap,
        chain: &Chain,
    ) -> Result<(), GuestMemoryError> {
        for buffer in &chain.buffers {
            let poison = || vec![POISON; (buffer.len as usize).min(MOST)];
            let bytes = buffer.readable.as_ref().map_or_else(poison, |bytes| bytes.0.clone());
            // As much as lies in memory; what does not is the device's to find.
            let _ = memory.write(&bytes, GuestAddress(buffer.at));
        }
        for Piece { at, bytes } in chain.descriptors.iter().rev() {
            let shown = if self.packed && self.is_mine(*at) { FLAGS } else { bytes.0.len() };
            memory.write_slice(&bytes.0[..shown.min(bytes.0.len())], GuestAddress(*at))?;
        }
        let entries = chain.descriptors.iter().filter(|piece| self.is_mine(piece.at)).count();
        self.lend(memory, chain, entries as u16);
        Ok(())
    }

    fn publish(&self, memory: &GuestMemoryMmap, chains: &[Chain]) -> Result<(), GuestMemoryError> {
        let driver = self.params.driver;
        if self.packed {
            memory.write_slice(&self.area, GuestAddress(driver))?;
            return chains.iter().try_for_each(|chain| self.show(memory, chain));
        }
        let (flags, rest) = self.area.split_at(INDEX);
        let (index, entries) = rest.split_at(2);
        memory.write_slice(entries, GuestAddress(driver + 4))?;
        memory.write_slice(flags, GuestAddress(driver))?;
        let index = u16::from_le_bytes([index[0], index[1]]);
        memory.store(index, GuestAddress(driver + INDEX as u64), Ordering::Release)
    }

    /// Writes the flags of a packed chain, the first ones last.
    fn show(&self, memory: &GuestMemoryMmap, chain: &Chain) -> Result<(), GuestMemoryError> {
        let mine = chain.descriptors.iter().filter(|piece| self.is_mine(piece.at));
        for Piece { at, bytes } in mine.rev() {
            if let Some([low, high]) = bytes.0.get(FLAGS..) {
                let flags = u16::from_le_bytes([*low, *high]);
                memory.store(flags, GuestAddress(at + FLAGS as u64), Ordering::Release)?;
            }
        }
        Ok(())
    }

    /// A descriptor of the ring, not a table.
    fn is_mine(&self, at: u64) -> bool {
        let len = DESCRIPTOR * u64::from(self.params.size);
        at.checked_sub(self.params.desc).is_some_and(|offset| offset < len)
    }
}
