//! Look-up and dispatch.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// A device that a guest reaches by loads and stores.
///
/// `offset` counts from the start of the device's range; `data` has 1 to 8 bytes, little endian, and
/// may reach past the range's end. Both methods run on a vCPU's thread while it waits: they do not block.
pub trait MmioDevice: Send {
    /// The guest loads: fill `data`.
    fn read(&mut self, offset: u64, data: &mut [u8]);
    /// The guest stores `data`.
    fn write(&mut self, offset: u64, data: &[u8]);
}

/// The builder's blame: a range that cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BusError {
    /// Two devices would answer the same address.
    #[error("MMIO range {new:#x?} overlaps {old:#x?}")]
    Overlap {
        /// The range that came too late.
        new: Range<u64>,
        /// The range that was there.
        old: Range<u64>,
    },
    /// A range without bytes, or one that wraps.
    #[error("MMIO range at {base:#x} of {size:#x} bytes is empty or leaves the address space")]
    BadRange {
        /// First address.
        base: u64,
        /// Bytes.
        size: u64,
    },
}

struct Entry {
    range: Range<u64>,
    device: Arc<Mutex<dyn MmioDevice>>,
}

/// The devices of a machine, by address.
#[derive(Default)]
pub struct Bus {
    entries: Vec<Entry>, // sorted, disjoint
}

impl Bus {
    /// A bus without devices.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `device` at `base` to `base + size`.
    pub fn insert(
        &mut self,
        base: u64,
        size: u64,
        device: Arc<Mutex<dyn MmioDevice>>,
    ) -> Result<(), BusError> {
        let end = base.checked_add(size).filter(|end| *end > base);
        let range = base..end.ok_or(BusError::BadRange { base, size })?;
        let at = self.entries.partition_point(|e| e.range.end <= range.start);
        match self.entries.get(at) {
            Some(next) if next.range.start < range.end => {
                Err(BusError::Overlap { new: range, old: next.range.clone() })
            }
            _ => {
                self.entries.insert(at, Entry { range, device });
                Ok(())
            }
        }
    }

    /// The guest loads from `address`; `false` (and `data` untouched) when no device is there.
    #[must_use]
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        self.with(address, |device, offset| device.read(offset, data))
    }

    /// The guest stores to `address`; `false` when no device is there.
    #[must_use]
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        self.with(address, |device, offset| device.write(offset, data))
    }

    fn with(&self, address: u64, access: impl FnOnce(&mut dyn MmioDevice, u64)) -> bool {
        let at = self.entries.partition_point(|e| e.range.end <= address);
        match self.entries.get(at) {
            Some(entry) if entry.range.contains(&address) => {
                // A panic in another access is that access's misfortune, not this guest's.
                let mut device = entry.device.lock().unwrap_or_else(PoisonError::into_inner);
                access(&mut *device, address - entry.range.start);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Tape(Vec<u64>);
    impl MmioDevice for Tape {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            self.0.push(offset);
            data.fill(0x5a);
        }
        fn write(&mut self, offset: u64, _data: &[u8]) {
            self.0.push(offset);
        }
    }

    fn tape() -> Arc<Mutex<Tape>> {
        Arc::default()
    }

    #[test]
    fn an_access_reaches_the_device_that_holds_its_address() {
        let (low, high) = (tape(), tape());
        let mut bus = Bus::new();
        bus.insert(0x2000, 0x100, high.clone()).unwrap();
        bus.insert(0x1000, 0x1000, low.clone()).unwrap();
        let mut data = [0; 4];
        assert!(bus.read(0x1fff, &mut data));
        assert!(bus.write(0x2000, &data));
        assert_eq!(low.lock().unwrap().0, [0xfff]);
        assert_eq!(high.lock().unwrap().0, [0]);
        assert_eq!(data, [0x5a; 4]);
    }

    #[test]
    fn addresses_between_devices_belong_to_nobody() {
        let mut bus = Bus::new();
        bus.insert(0x1000, 0x10, tape()).unwrap();
        for address in [0, 0xfff, 0x1010, u64::MAX] {
            assert!(!bus.write(address, &[0]), "{address:#x}");
        }
    }

    #[test]
    fn ranges_may_touch_but_not_overlap() {
        let mut bus = Bus::new();
        bus.insert(0x1000, 0x100, tape()).unwrap();
        bus.insert(0x1100, 0x100, tape()).unwrap();
        bus.insert(0x0f00, 0x100, tape()).unwrap();
        for (base, size) in [(0x1000, 0x100), (0x10ff, 1), (0xfff, 2), (0, 0x10000)] {
            assert!(matches!(bus.insert(base, size, tape()), Err(BusError::Overlap { .. })));
        }
    }

    #[test]
    fn a_range_has_bytes_and_does_not_wrap() {
        for (base, size) in [(0x1000, 0), (u64::MAX, 2)] {
            let error = Bus::new().insert(base, size, tape());
            assert_eq!(error, Err(BusError::BadRange { base, size }));
        }
    }

    #[test]
    fn a_panic_in_one_access_does_not_take_the_device_away() {
        struct Fragile;
        impl MmioDevice for Fragile {
            fn read(&mut self, _: u64, data: &mut [u8]) {
                data.fill(1);
            }
            fn write(&mut self, _: u64, _: &[u8]) {
                panic!("on purpose");
            }
        }
        let mut bus = Bus::new();
        bus.insert(0, 8, Arc::new(Mutex::new(Fragile))).unwrap();
        let bus = Arc::new(bus);
        let other = Arc::clone(&bus);
        let hit = std::thread::spawn(move || other.write(0, &[0]));
        assert!(hit.join().is_err());
        let mut data = [0];
        assert!(bus.read(0, &mut data));
        assert_eq!(data, [1]);
    }
}
