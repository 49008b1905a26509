//! A queue on a bench: guest memory with two regions and a hole, and the driver's end by hand.

use std::sync::Arc;

use cubie_virtq::{
    Features, OnFault, QueueError, QueueParams, QueueResources, QueueState, Virtqueue,
};
use cubie_vm_irq::Interrupt;
use proptest::test_runner::Config;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

pub(crate) const DESC: u64 = 0x1000;
pub(crate) const AVAIL: u64 = 0x2000;
pub(crate) const USED: u64 = 0x3000;
pub(crate) const TABLE: u64 = 0x5000;
pub(crate) const DATA: u64 = 0x8000;
/// The first region ends here, and the second begins: a buffer may lie across.
pub(crate) const SEAM: u64 = 0x1_0000;
/// Here guest memory ends.
pub(crate) const END: u64 = 0x2_0000;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

pub(crate) struct Bench {
    pub(crate) memory: Arc<GuestMemoryMmap>,
    pub(crate) queue: Virtqueue,
    pub(crate) interrupt: EventFd,
    pub(crate) fault: EventFd,
    pub(crate) kick: EventFd,
    pub(crate) size: u16,
    pub(crate) avail: u16,
}

pub(crate) fn memory() -> Arc<GuestMemoryMmap> {
    let regions = [(GuestAddress(0), SEAM as usize), (GuestAddress(SEAM), (END - SEAM) as usize)];
    Arc::new(GuestMemoryMmap::from_ranges(&regions).unwrap())
}

/// How often a property is tried: under Miri, where a case takes seconds, a few times, and without the
/// file of failures, since Miri has no file system.
pub(crate) fn cases() -> Config {
    if cfg!(miri) {
        Config { cases: 4, failure_persistence: None, ..Config::default() }
    } else {
        Config::default()
    }
}

pub(crate) fn params(size: u16) -> QueueParams {
    QueueParams { size, desc: DESC, driver: AVAIL, device: USED }
}

impl Bench {
    pub(crate) fn new(size: u16, features: Features) -> Self {
        Self::with(memory(), params(size), features, QueueState::fresh(features)).unwrap()
    }

    pub(crate) fn with(
        memory: Arc<GuestMemoryMmap>,
        params: QueueParams,
        features: Features,
        state: QueueState,
    ) -> Result<Self, QueueError> {
        let eventfd = || EventFd::new(EFD_NONBLOCK).unwrap();
        let (interrupt, fault, kick) = (eventfd(), eventfd(), eventfd());
        let queue = Virtqueue::new(QueueResources {
            index: 0,
            params,
            state,
            features,
            kick: kick.try_clone().unwrap(),
            interrupt: Interrupt::new(interrupt.try_clone().unwrap()),
            fault: {
                let fault = fault.try_clone().unwrap();
                OnFault::new(move |_, _| fault.write(1).unwrap())
            },
            memory: memory.clone(),
        })?;
        let (size, avail) = (params.size, state.next_avail);
        Ok(Self { memory, queue, interrupt, fault, kick, size, avail })
    }

    pub(crate) fn descriptor(&self, table: u64, index: u16, desc: (u64, u32, u16, u16)) {
        let at = GuestAddress(table + 16 * u64::from(index));
        let (address, len, flags, next) = desc;
        self.memory.write_obj(address.to_le(), at).unwrap();
        let rest = u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48;
        self.memory.write_obj(rest.to_le(), GuestAddress(at.0 + 8)).unwrap();
    }

    pub(crate) fn offer(&mut self, head: u16) {
        let slot = AVAIL + 4 + 2 * u64::from(self.avail % self.size);
        self.memory.write_obj(head.to_le(), GuestAddress(slot)).unwrap();
        self.avail = self.avail.wrapping_add(1);
        self.set16(AVAIL + 2, self.avail);
    }

    pub(crate) fn set16(&self, at: u64, value: u16) {
        self.memory.write_obj(value.to_le(), GuestAddress(at)).unwrap();
    }

    pub(crate) fn get16(&self, at: u64) -> u16 {
        u16::from_le(self.memory.read_obj(GuestAddress(at)).unwrap())
    }

    pub(crate) fn used(&self, slot: u16) -> (u32, u32) {
        let at = USED + 4 + 8 * u64::from(slot % self.size);
        let id: u32 = self.memory.read_obj(GuestAddress(at)).unwrap();
        let len: u32 = self.memory.read_obj(GuestAddress(at + 4)).unwrap();
        (u32::from_le(id), u32::from_le(len))
    }

    pub(crate) fn interrupts(&self) -> u64 {
        self.interrupt.read().unwrap_or(0)
    }
}
