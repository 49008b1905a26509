//! Registers, accessed as a driver of virtio-mmio does (VIRTIO 1.4 §4.2).

use cubie_virtio_core::MMIO_SIZE;
use cubie_virtq::driver::Buffer;
use virtio_bindings::virtio_mmio::*;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PAGE_SIZE, PhysAddr, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::Guest;
use crate::registers::Registers;

/// Configuration space begins here.
const CONFIG: u64 = VIRTIO_MMIO_CONFIG as u64;

/// The transport of a driver: loads and stores on the registers of a [`Slot`](crate::Slot).
///
/// Resets the device when dropped, as the transport of `virtio_drivers` does.
pub struct RegisterTransport {
    registers: Registers,
    #[expect(dead_code, reason = "keeps mapped what the driver's rings lie in")]
    guest: Guest,
}

impl RegisterTransport {
    pub(crate) fn new(registers: Registers, guest: Guest) -> Self {
        Self { registers, guest }
    }

    /// A load from the 32-bit register at `offset`.
    pub fn read(&self, offset: u32) -> u32 {
        self.registers.read(offset.into())
    }

    /// A store to the 32-bit register at `offset`.
    pub fn write(&mut self, offset: u32, value: u32) {
        self.registers.write(offset.into(), value);
    }

    /// A load of any width at any place, such as no decent driver does.
    pub fn read_bytes(&self, offset: u64, data: &mut [u8]) {
        self.registers.read_bytes(offset, data);
    }

    /// A store of any width at any place, such as no decent driver does.
    pub fn write_bytes(&mut self, offset: u64, data: &[u8]) {
        self.registers.write_bytes(offset, data);
    }

    /// The driver is about to show the device a chain, in a table of its own if there is one.
    pub(crate) fn lends(&self, queue: u32, token: u16, buffers: &[Buffer], table: Option<u64>) {
        if let Some(journal) = self.registers.journal() {
            journal.lends(queue, token, buffers, table);
        }
    }

    /// The driver takes back a chain: the token and the bytes written.
    pub(crate) fn takes_chain(&self, queue: u32, end: (u16, u32)) {
        if let Some(journal) = self.registers.journal() {
            journal.takes_chain(queue, end);
        }
    }

    /// Says whether the selected queue is in use; 0 takes it back.
    fn use_register(&self) -> u32 {
        match self.requires_legacy_layout() {
            true => VIRTIO_MMIO_QUEUE_PFN,
            false => VIRTIO_MMIO_QUEUE_READY,
        }
    }

    fn write64(&mut self, low: u32, high: u32, value: u64) {
        self.write(low, value as u32);
        self.write(high, (value >> 32) as u32);
    }

    /// The offsets of a field in configuration space, one for each access: all of one width, as the
    /// standard wants it (VIRTIO 1.4 §4.2.2.2).
    fn accesses<T>(offset: usize) -> Result<(usize, impl Iterator<Item = u64>)> {
        let end = offset.checked_add(size_of::<T>());
        if end.is_none_or(|end| end as u64 > MMIO_SIZE - CONFIG) {
            return Err(Error::ConfigSpaceTooSmall);
        }
        let width = align_of::<T>().min(4);
        let offsets = (0..size_of::<T>()).step_by(width);
        Ok((width, offsets.map(move |at| CONFIG + (offset + at) as u64)))
    }
}

impl Transport for RegisterTransport {
    fn device_type(&self) -> DeviceType {
        let id = self.read(VIRTIO_MMIO_DEVICE_ID);
        id.try_into().expect("a device that virtio_drivers knows")
    }

    fn read_device_features(&mut self) -> u64 {
        let mut word = |select| {
            self.write(VIRTIO_MMIO_DEVICE_FEATURES_SEL, select);
            u64::from(self.read(VIRTIO_MMIO_DEVICE_FEATURES))
        };
        word(0) | word(1) << 32
    }

    fn write_driver_features(&mut self, features: u64) {
        for (select, word) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
            self.write(VIRTIO_MMIO_DRIVER_FEATURES, word);
        }
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.write(VIRTIO_MMIO_QUEUE_SEL, queue.into());
        self.read(VIRTIO_MMIO_QUEUE_NUM_MAX)
    }

    fn notify(&mut self, queue: u16) {
        self.write(VIRTIO_MMIO_QUEUE_NOTIFY, queue.into());
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_retain(self.read(VIRTIO_MMIO_STATUS))
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.write(VIRTIO_MMIO_STATUS, status.bits());
    }

    fn set_guest_page_size(&mut self, size: u32) {
        if self.requires_legacy_layout() {
            self.write(VIRTIO_MMIO_GUEST_PAGE_SIZE, size);
        }
    }

    fn requires_legacy_layout(&self) -> bool {
        self.read(VIRTIO_MMIO_VERSION) == 1
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.write(VIRTIO_MMIO_QUEUE_SEL, queue.into());
        self.write(VIRTIO_MMIO_QUEUE_NUM, size);
        if self.requires_legacy_layout() {
            self.write(VIRTIO_MMIO_QUEUE_ALIGN, PAGE_SIZE as u32);
            self.write(VIRTIO_MMIO_QUEUE_PFN, (descriptors / PAGE_SIZE as u64) as u32);
            return;
        }
        self.write64(VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH, descriptors);
        self.write64(VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, driver_area);
        self.write64(VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_MMIO_QUEUE_USED_HIGH, device_area);
        self.write(VIRTIO_MMIO_QUEUE_READY, 1);
    }

    fn queue_unset(&mut self, queue: u16) {
        let register = self.use_register();
        self.write(VIRTIO_MMIO_QUEUE_SEL, queue.into());
        self.write(register, 0);
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        let register = self.use_register();
        self.write(VIRTIO_MMIO_QUEUE_SEL, queue.into());
        self.read(register) != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        let pending = self.read(VIRTIO_MMIO_INTERRUPT_STATUS);
        if pending != 0 {
            self.write(VIRTIO_MMIO_INTERRUPT_ACK, pending);
        }
        InterruptStatus::from_bits_truncate(pending)
    }

    fn read_config_generation(&self) -> u32 {
        self.read(VIRTIO_MMIO_CONFIG_GENERATION)
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        let (width, offsets) = Self::accesses::<T>(offset)?;
        let mut value = T::new_zeroed();
        for (bytes, at) in value.as_mut_bytes().chunks_mut(width).zip(offsets) {
            self.registers.read_bytes(at, bytes);
        }
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> Result<()> {
        let (width, offsets) = Self::accesses::<T>(offset)?;
        for (bytes, at) in value.as_bytes().chunks(width).zip(offsets) {
            self.registers.write_bytes(at, bytes);
        }
        Ok(())
    }
}

impl Drop for RegisterTransport {
    fn drop(&mut self) {
        // A test that fails because the device's thread has panicked hears that panic once.
        if std::thread::panicking() {
            return;
        }
        self.set_status(DeviceStatus::empty());
    }
}
