//! Stores that the kernel keeps for us instead of coming out: the ring of coalesced MMIO (KVM API 4.116).
//!
//! There is one ring for all vCPUs of a machine. The kernel puts stores in and moves `last` on; who takes
//! them out moves `first` on. When the ring is full, stores come out as exits.
//!
//! `kvm-ioctls` can read such a ring for one vCPU. With several, ARM needs barriers between an index and
//! its entry, and a kernel before Linux 6.12 some care (see [`Ring::move_on`]).

use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cubie_hv::HvError;
use kvm_bindings::{
    KVM_COALESCED_MMIO_PAGE_OFFSET, kvm_coalesced_mmio as Entry, kvm_coalesced_mmio_ring as Head,
};
use kvm_ioctls::VcpuFd;
use vm_memory::{ByteValued, VolatileMemory};

use crate::vcpu_page::VcpuPage;

/// The ring of a machine, once the first vCPU's file has given it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedRing(Arc<OnceLock<Ring<VcpuPage>>>);

impl SharedRing {
    /// Maps the ring, unless another vCPU has given it.
    pub(crate) fn map(&self, vcpu: &VcpuFd) -> Result<(), HvError> {
        if self.0.get().is_none() {
            let page = VcpuPage::map(vcpu, KVM_COALESCED_MMIO_PAGE_OFFSET);
            let page = page.map_err(|e| HvError::new("map the ring of coalesced MMIO", e))?;
            self.0.get_or_init(|| Ring::new(page));
        }
        Ok(())
    }

    /// See [`Ring::carry_out`].
    pub(crate) fn carry_out(&self, late: &mut dyn FnMut(u64, &[u8])) {
        if let Some(ring) = self.0.get() {
            ring.carry_out(late);
        }
    }
}

/// The ring in its page.
#[derive(Debug)]
struct Ring<M> {
    page: M,
    /// The first entry that is not carried out.
    first: AtomicU32,
    /// Held by the thread that carries stores out, so that it happens in order.
    turn: Mutex<()>,
}

impl<M: VolatileMemory> Ring<M> {
    fn new(page: M) -> Self {
        Self { page, first: AtomicU32::new(0), turn: Mutex::new(()) }
    }

    /// Hands out what is in the ring now; afterwards all of that is carried out, by this thread or by
    /// another one. Takes the lock only if there is something.
    fn carry_out(&self, late: &mut dyn FnMut(u64, &[u8])) {
        // In this order: when `last` was read, the first entry that was not carried out was less than a
        // round behind it, and so `first` is equal only when it has come as far.
        let last = self.last().load(Ordering::Acquire);
        if self.first.load(Ordering::Acquire) == last {
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first = self.first.load(Ordering::Relaxed);
        // Read once: what other vCPUs put in meanwhile has not happened before this exit.
        let last = self.last().load(Ordering::Acquire);
        while first != last {
            let (address, data, len) = self.entry(first);
            late(address, &data[..len]);
            first = (first + 1) % self.capacity();
            // Not before it is carried out: whoever finds the ring empty need not wait.
            self.move_on(first);
        }
    }

    /// The entries before `first` are carried out, and their places are free.
    ///
    /// But the kernel never learns of a `first` of 0. One without commit 92f6d4130497 would let `last` run
    /// into it, and take the full ring for an empty one: its check of the room goes wrong as long as
    /// `first <= last`, and holds at every other place where they meet. Entry 0 keeps its predecessor's
    /// place occupied until it is carried out itself.
    fn move_on(&self, first: u32) {
        self.first.store(first, Ordering::Release);
        if first != 0 {
            self.index(offset_of!(Head, first)).store(first, Ordering::Release);
        }
    }

    /// Address, data and how many bytes of it.
    fn entry(&self, index: u32) -> (u64, [u8; 8], usize) {
        let at = size_of::<Head>() + index as usize * size_of::<Entry>();
        let len: u32 = self.load(at + offset_of!(Entry, len));
        let address = self.load(at + offset_of!(Entry, phys_addr));
        (address, self.load(at + offset_of!(Entry, data)), len as usize)
    }

    fn load<T: ByteValued>(&self, offset: usize) -> T {
        self.page.get_ref(offset).expect("the kernel keeps to the page").load()
    }

    /// Entries in the page. One of them is always free.
    fn capacity(&self) -> u32 {
        ((self.page.len() - size_of::<Head>()) / size_of::<Entry>()) as u32
    }

    fn last(&self) -> &AtomicU32 {
        self.index(offset_of!(Head, last))
    }

    fn index(&self, offset: usize) -> &AtomicU32 {
        self.page.get_atomic_ref(offset).expect("the page has a head")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{Bytes, MmapRegion};

    /// A ring as the kernel leaves it, empty at `index`.
    fn empty_at(index: u32) -> Ring<MmapRegion> {
        let ring = Ring::new(MmapRegion::new(4096).unwrap());
        ring.move_on(index);
        ring.last().store(index, Ordering::Relaxed);
        ring
    }

    /// What the kernel does for a store of `data` at `address`.
    fn put(ring: &Ring<MmapRegion>, address: u64, data: &[u8]) {
        let last = ring.last().load(Ordering::Relaxed);
        let at = size_of::<Head>() + last as usize * size_of::<Entry>();
        let page = ring.page.as_volatile_slice();
        page.write_obj(address, at).unwrap();
        page.write_obj(data.len() as u32, at + 8).unwrap();
        page.write_slice(data, at + 16).unwrap();
        ring.last().store((last + 1) % ring.capacity(), Ordering::Release);
    }

    /// The room that the kernel sees: how many it could put in.
    fn free(ring: &Ring<MmapRegion>) -> u32 {
        let first = ring.index(offset_of!(Head, first)).load(Ordering::Relaxed);
        let last = ring.last().load(Ordering::Relaxed);
        (first + ring.capacity() - last - 1) % ring.capacity()
    }

    fn carried_out(ring: &Ring<MmapRegion>) -> Vec<(u64, Vec<u8>)> {
        let mut stores = vec![];
        ring.carry_out(&mut |address, data| stores.push((address, data.to_vec())));
        stores
    }

    #[test]
    fn stores_come_out_once_in_order_across_the_end_of_the_page() {
        let ring = empty_at(168);
        assert_eq!(ring.capacity(), 170);
        let stores = [(0x80, vec![1]), (0x84, vec![2, 3]), (0x80, vec![4; 8])];
        stores.iter().for_each(|(address, data)| put(&ring, *address, data));
        assert_eq!(carried_out(&ring), stores);
        assert_eq!(carried_out(&ring), []);
        assert_eq!(free(&ring), 169);
    }

    #[test]
    fn what_is_put_in_meanwhile_waits_for_the_next_exit() {
        let ring = empty_at(0);
        put(&ring, 0x80, &[1]);
        let mut stores = 0;
        ring.carry_out(&mut |_, _| {
            put(&ring, 0x80, &[2]);
            stores += 1;
        });
        assert_eq!(stores, 1);
        assert_eq!(carried_out(&ring), [(0x80, vec![2])]);
    }

    #[test]
    fn a_store_leaves_the_ring_when_it_is_carried_out_and_not_before() {
        let ring = empty_at(0);
        put(&ring, 0x80, &[1]);
        ring.carry_out(&mut |_, _| assert_eq!(free(&ring), 168));
        assert_eq!(free(&ring), 169);
    }

    /// What the check of a kernel without commit 92f6d4130497 says.
    fn seems_to_have_room(ring: &Ring<MmapRegion>) -> bool {
        let first = ring.index(offset_of!(Head, first)).load(Ordering::Relaxed);
        let last = ring.last().load(Ordering::Relaxed);
        !first.wrapping_sub(last).wrapping_sub(1).is_multiple_of(ring.capacity())
    }

    #[test]
    fn nothing_is_lost_by_a_kernel_that_misjudges_the_room() {
        for burst in [1, 2, 7] {
            let (ring, mut sent, mut seen) = (empty_at(0), 0_u64, 0_u64);
            let fill = |most: u64, sent: &mut u64| {
                for _ in 0..most {
                    if seems_to_have_room(&ring) {
                        put(&ring, 0x80, &sent.to_le_bytes());
                        *sent += 1;
                    }
                }
            };
            for _ in 0..100 {
                fill(200, &mut sent);
                // Other vCPUs go on while this one carries out.
                ring.carry_out(&mut |_, data| {
                    assert_eq!(data, seen.to_le_bytes(), "bursts of {burst}");
                    seen += 1;
                    fill(burst, &mut sent);
                });
            }
            assert!(seen > 5_000, "{seen}");
        }
    }
}
