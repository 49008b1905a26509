//! Guest memory, as somebody sees it who only watches.

use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::step::{Bytes, Piece};

/// More of one buffer is not copied: it is all the memory that a guest has.
const MOST: usize = 16 << 20;
/// Changes with fewer bytes between them than this are one.
const GAP: usize = 8;

/// So many bytes from `at` on, or as many of them as lie in memory.
pub(crate) fn copy(memory: &GuestMemoryMmap, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len.min(MOST)];
    let there = memory.read(&mut bytes, GuestAddress(at)).unwrap_or(0);
    bytes.truncate(there);
    bytes
}

/// The field of a ring that lies at `at`. Zero where there is no memory.
pub(crate) fn load<const LEN: usize>(memory: &GuestMemoryMmap, at: u64) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    let there = memory.read_slice(&mut bytes, GuestAddress(at));
    there.map_or([0; LEN], |()| bytes)
}

/// Where `new` is not what `old` was. What is beyond the end of `old` was zero.
pub(crate) fn changes(old: &[u8], new: &[u8]) -> Vec<Piece> {
    let mut runs: Vec<(usize, usize)> = vec![];
    let old = old.iter().copied().chain(std::iter::repeat(0));
    for (at, _) in new.iter().zip(old).enumerate().filter(|(_, (new, old))| **new != *old) {
        match runs.last_mut() {
            Some((_, end)) if at < *end + GAP => *end = at + 1,
            _ => runs.push((at, at + 1)),
        }
    }
    let piece = |(start, end)| Piece { at: start as u64, bytes: Bytes(new[start..end].to_vec()) };
    runs.into_iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_runs_and_small_gaps_are_in_them() {
        let mut new = vec![0; 64];
        assert_eq!(changes(&[], &new), []);
        (new[3], new[9], new[40]) = (1, 2, 3);
        let found = changes(&[0; 64], &new);
        let runs: Vec<_> = found.iter().map(|piece| (piece.at, piece.bytes.0.len())).collect();
        assert_eq!(runs, [(3, 7), (40, 1)]);
    }
}
