//! What guest memory held at some moment.

use std::ops::Range;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// Compared at once.
const PIECE: usize = 4096;

/// A copy of all guest memory.
pub(super) struct Image(Vec<(u64, Vec<u8>)>);

impl Image {
    pub(super) fn new(memory: &GuestMemoryMmap) -> Self {
        let regions = memory.iter().map(|region| {
            let mut bytes = vec![0; region.len() as usize];
            memory.read_slice(&mut bytes, region.start_addr()).expect("a region of memory");
            (region.start_addr().0, bytes)
        });
        Self(regions.collect())
    }

    /// Fails when `memory` is different now outside of `writable`.
    #[track_caller]
    pub(super) fn check(&self, memory: &GuestMemoryMmap, writable: &[Range<u64>]) {
        let mut now = [0; PIECE];
        for (base, bytes) in &self.0 {
            for (at, then) in (*base..).step_by(PIECE).zip(bytes.chunks(PIECE)) {
                memory.read_slice(&mut now, GuestAddress(at)).expect("a piece of memory");
                if now != *then {
                    check_piece(at, then, &now, writable);
                }
            }
        }
    }
}

#[track_caller]
fn check_piece(base: u64, then: &[u8], now: &[u8], writable: &[Range<u64>]) {
    for (at, (then, now)) in (base..).zip(then.iter().zip(now)) {
        let free = then == now || writable.iter().any(|range| range.contains(&at));
        assert!(
            free,
            "the device wrote {now:#04x} over {then:#04x} at {at:#x}, which is not its own"
        );
    }
}
