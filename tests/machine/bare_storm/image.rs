//! The guest: a driver without a kernel, a CPU for each device.
//!
//! A CPU turns its caches on, stores what its table says into registers (the interrupt controller's, then the
//! device's, up to DRIVER_OK), starts the next CPU, offers the only chain it has, and sleeps. At an interrupt it
//! reads InterruptStatus and acknowledges it; reads the configuration, if that has changed; and offers the chain
//! anew, if it was used. The chain says how far it is. So a notification that is lost is the last one.

use std::ops::Range;

use cubie::kvm::GuestMode;
use cubie::vmm::layout::{GIC_CPU_INTERFACE, GIC_DISTRIBUTOR, RAM_BASE, VIRTIO, virtio_spi};
use cubie::vmm::loader::{Format, Kernel};
use virtio_bindings::virtio_mmio::*;

use super::{a32, a64};

/// Devices, and CPUs.
pub(super) const DEVICES: usize = 2;
/// Descriptors of a queue, of which the chain takes one.
const QUEUE: u32 = 8;
/// Bytes of the chain: what was read last of the configuration, and how many interrupts there were.
pub(super) const WORDS: usize = 8;

const USED_BUFFERS: u32 = VIRTIO_MMIO_INT_VRING;

/// Offsets in the image, which lies where memory begins.
const VECTORS: usize = 0x1000;
const TABLES: usize = 0x4000;
const AREAS: [usize; DEVICES] = [0x1_0000, 0x2_0000];
const SIZE: usize = 0x3_0000;

/// Offsets in a CPU's area: its table, the three parts of its queue, and its chain.
const STORES: usize = 0x1000;
const QUEUE_PARTS: [usize; 3] = [0x2000, 0x3000, 0x4000];
const CHAIN: usize = 0x5000;

/// When the guest acknowledges used buffers: a driver may do either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acknowledge {
    First,
    Last,
}

/// The image with these habits of its CPUs.
pub(super) fn kernel(mode: GuestMode, habits: [Acknowledge; DEVICES]) -> Kernel {
    let mut image = Image(vec![0; SIZE]);
    let (main, irq, vector, format) = match mode {
        GuestMode::Aarch64 => (a64::MAIN, a64::IRQ, 0x280, Format::Arm64Image),
        GuestMode::Aarch32 => (a32::MAIN, a32::IRQ, 0x18, Format::ArmImage),
    };
    image.words(0, main);
    image.words(VECTORS + vector, irq);
    match mode {
        GuestMode::Aarch64 => image.map_64(),
        GuestMode::Aarch32 => image.map_32(),
    }
    for (cpu, habit) in habits.into_iter().enumerate() {
        image.area(cpu, habit);
    }
    let load = RAM_BASE;
    let end = load + SIZE as u64;
    Kernel { format, unpacked: None, image: image.0, load, entry: load, end }
}

struct Image(Vec<u8>);

impl Image {
    fn words(&mut self, at: usize, words: &[u32]) {
        for (word, bytes) in words.iter().zip(self.0[at..].chunks_exact_mut(4)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Blocks of 1 GiB: devices, then memory (ARM DDI 0487 D8.3.1).
    fn map_64(&mut self) {
        let (device, memory) = (1 << 54 | 0x401, RAM_BASE | 0x705);
        let words = [device, memory].map(|block| [block as u32, (block >> 32) as u32]);
        self.words(TABLES, words.as_flattened());
    }

    /// Sections of 1 MiB, the same (ARM DDI 0487 G5.4).
    fn map_32(&mut self) {
        let section = |mib: u32| if mib < 0x400 { 0xc16 } else { 0x1_1c0e };
        let sections: Vec<_> = (0..0x800).map(|mib| mib << 20 | section(mib)).collect();
        self.words(TABLES, &sections);
    }

    fn area(&mut self, cpu: usize, habit: Acknowledge) {
        let area = AREAS[cpu];
        let late = if habit == Acknowledge::Last { USED_BUFFERS } else { 0 };
        let next = AREAS.get(cpu + 1).map_or(0, |next| address(*next));
        let device = VIRTIO.address(cpu).unwrap() as u32;
        self.words(area, &[GIC_CPU_INTERFACE.start as u32, device, late, next]);
        let stores = [controller(cpu), transport(device, area)].concat();
        self.words(area + STORES, stores.as_flattened());
        // Its only descriptor; all entries of the available ring name it.
        self.words(area + QUEUE_PARTS[0], &[address(area + CHAIN), 0, WORDS as u32, 0]);
    }
}

/// Where a part of the image lies.
fn address(offset: usize) -> u32 {
    (RAM_BASE + offset as u64) as u32
}

/// A store each: the interrupts of all devices, by the first CPU, and the CPU's own interface.
fn controller(cpu: usize) -> Vec<[u32; 2]> {
    let mut stores = vec![];
    if cpu == 0 {
        let (distributor, spis) = (GIC_DISTRIBUTOR.start as u32, spis());
        let word = |bits: u32| 4 * (spis.start * bits / 32);
        // The n-th of them by the n-th CPU, edge triggered (ARM IHI 0048 §4.3).
        let shift = |bits: u32, n: u32| (spis.start + n) * bits % 32;
        let all = |bits, value: fn(u32) -> u32| {
            (0..DEVICES as u32).fold(0, |word, n| word | value(n) << shift(bits, n))
        };
        stores.push([distributor + 0x100 + word(1), all(1, |_| 1)]);
        stores.push([distributor + 0x800 + word(8), all(8, |n| 1 << n)]);
        stores.push([distributor + 0xc00 + word(2), all(2, |_| 2)]);
        stores.push([distributor, 1]);
    }
    let interface = GIC_CPU_INTERFACE.start as u32;
    stores.extend([[interface + 4, 0xff], [interface, 1]]);
    stores
}

/// INTIDs of the devices.
fn spis() -> Range<u32> {
    let first = virtio_spi(0).unwrap().intid().number();
    first..first + DEVICES as u32
}

/// A store each: a modern driver's way to DRIVER_OK (VIRTIO 1.4 §3.1.1, §4.2.3.2).
fn transport(device: u32, area: usize) -> Vec<[u32; 2]> {
    let [descriptors, available, used] = QUEUE_PARTS.map(|part| address(area + part));
    let stores = [
        (VIRTIO_MMIO_STATUS, 1),
        (VIRTIO_MMIO_STATUS, 3),
        (VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1),
        (VIRTIO_MMIO_DRIVER_FEATURES, 1),
        (VIRTIO_MMIO_STATUS, 0xb),
        (VIRTIO_MMIO_QUEUE_SEL, 0),
        (VIRTIO_MMIO_QUEUE_NUM, QUEUE),
        (VIRTIO_MMIO_QUEUE_DESC_LOW, descriptors),
        (VIRTIO_MMIO_QUEUE_AVAIL_LOW, available),
        (VIRTIO_MMIO_QUEUE_USED_LOW, used),
        (VIRTIO_MMIO_QUEUE_READY, 1),
        (VIRTIO_MMIO_STATUS, 0xf),
    ];
    stores.map(|(register, value)| [device + register, value]).to_vec()
}
