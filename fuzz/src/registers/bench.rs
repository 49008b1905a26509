//! A device behind its registers.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use cubie_mmio_bus::{MemoryPage, MmioDevice};
use cubie_virtio_core::{Config, Features, Interface, MmioTransport, VirtioDevice};
use cubie_virtio_net::{Loopback, Mac, Net};
use cubie_virtio_rng::{EntropySource, Rng};
use cubie_vm_irq::Interrupt;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::Choice;

/// Bytes of guest memory, from 0 on.
pub(super) const MEMORY: usize = 0x1_0000;
const PAGE: usize = 0x1000;

const STATUS: u64 = 0x70;
const INTERRUPT_STATUS: u64 = 0x60;

/// All that there can be said by drivers of both interfaces.
const STATUS_BITS: u32 = 1 | 2 | 4 | 8 | 0x40 | 0x80;

/// Gives what nobody should call random.
struct Sevens;

impl EntropySource for Sevens {
    fn fill(&mut self, data: &mut [u8]) -> io::Result<()> {
        data.fill(7);
        Ok(())
    }
}

pub(super) struct Bench {
    registers: Mutex<MmioTransport>,
    page: Option<Arc<MemoryPage>>,
    memory: Arc<GuestMemoryMmap>,
    config: Config,
}

impl Bench {
    pub(super) fn new(choice: Choice) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]);
        let memory = Arc::new(memory.expect("a small mapping"));
        let device: Box<dyn VirtioDevice> = match choice.network {
            true => {
                Box::new(Net::new(Loopback::new().expect("an eventfd"), Mac::made_from("fuzz")))
            }
            false => Box::new(Rng::new(Sevens)),
        };
        let config = device.config().clone();
        let interface = if choice.legacy { Interface::Legacy } else { Interface::Modern };
        let mut rings = Features::RING.with(Features::IN_ORDER);
        if choice.packed {
            rings = rings.with(Features::PACKED);
        }
        if choice.kicks_with_data {
            rings = rings.with(Features::NOTIFICATION_DATA);
        }
        let registers = MmioTransport::new(device, memory.clone(), Interrupt::silent());
        let registers = registers.expect("eventfds").with_interface(interface).with_rings(rings);
        let page = choice.page.then(|| Arc::new(MemoryPage::new(PAGE)));
        let registers = match &page {
            Some(page) => registers.with_page(page.clone()),
            None => registers,
        };
        Self { registers: Mutex::new(registers), page, memory, config }
    }

    pub(super) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn read_bytes(&self, offset: u64, data: &mut [u8]) {
        self.with(|registers| registers.read(offset, data));
    }

    pub(super) fn write_bytes(&self, offset: u64, data: &[u8]) {
        self.with(|registers| registers.write(offset, data));
    }

    pub(super) fn read(&self, offset: u64) -> u32 {
        let mut word = [0xee; 4];
        self.read_bytes(offset, &mut word);
        u32::from_le_bytes(word)
    }

    pub(super) fn write(&self, offset: u64, value: u32) {
        self.write_bytes(offset, &value.to_le_bytes());
    }

    pub(super) fn status(&self) -> u32 {
        self.read(STATUS)
    }

    /// No register reads what it cannot.
    pub(super) fn check(&self) {
        assert_eq!(self.read(0), u32::from_le_bytes(*b"virt"));
        assert_eq!(self.status() & !STATUS_BITS, 0);
        assert!(self.read(INTERRUPT_STATUS) <= 3);
        assert!(self.read(0x44) <= 1 && self.read(0xc0) <= 1);
    }

    /// A reset ends it all.
    pub(super) fn end(self) {
        self.write(STATUS, 0);
        assert_eq!((self.status(), self.read(INTERRUPT_STATUS)), (0, 0));
        for queue in 0..2 {
            self.write(0x30, queue);
            assert_eq!((self.read(0x40), self.read(0x44)), (0, 0), "queue {queue} is in use");
        }
        let mut before = vec![0; MEMORY];
        self.memory.read_slice(&mut before, GuestAddress(0)).expect("mapped");
        for queue in 0..2 {
            self.write(0x50, queue);
        }
        if let Some(page) = &self.page {
            for offset in (0..0x200).step_by(4) {
                assert_eq!(page.load(offset), self.read(offset as u64), "{offset:#x} in the page");
            }
        }
        let mut after = vec![0; MEMORY];
        self.memory.read_slice(&mut after, GuestAddress(0)).expect("mapped");
        assert!(before == after, "memory was touched after the reset");
        let registers = self.registers.into_inner().unwrap_or_else(PoisonError::into_inner);
        drop(registers.unplug());
    }

    fn with(&self, access: impl FnOnce(&mut MmioTransport)) {
        access(&mut self.registers.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
