//! Look-up and dispatch.

use std::iter::successors;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::place::Place;

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

/// The devices of a machine, by address. Devices come and go while vCPUs use the others.
///
/// An access walks over the places of all devices, without a lock and without an allocation, and then
/// holds its own device until it is done: whoever is slow holds up nobody else's device. A machine has
/// tens of devices, and the exit before an access costs thousands of instructions.
#[derive(Default)]
pub struct Bus {
    first: Row,
    /// Held while a device is put in its place.
    inserting: Mutex<()>,
}

/// Places for devices, and the next row if these were too few once. Rows stay as long as the bus.
#[derive(Default)]
struct Row {
    places: [Place; 32],
    next: OnceLock<Box<Row>>,
}

impl Bus {
    /// A bus without devices.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `device` at `base` to `base + size`. Accesses that begin after this reach it.
    pub fn insert(
        &self,
        base: u64,
        size: u64,
        device: Arc<Mutex<dyn MmioDevice>>,
    ) -> Result<(), BusError> {
        let end = base.checked_add(size).filter(|end| *end > base);
        let new = base..end.ok_or(BusError::BadRange { base, size })?;
        let _alone = self.inserting.lock().unwrap_or_else(PoisonError::into_inner);
        let overlaps = |old: &Range<u64>| old.start < new.end && new.start < old.end;
        if let Some(old) = self.places().filter_map(Place::range).find(overlaps) {
            return Err(BusError::Overlap { new, old });
        }
        self.free_place().fill(new, device);
        Ok(())
    }

    /// Takes the device away whose range begins at `base`.
    ///
    /// Waits for an access that has begun. After this the device is in no access, no later one reaches
    /// it, and the bus has no handle to it: a caller without other handles is its only owner.
    ///
    /// A device must not remove itself from within an access: that would wait for its own end.
    pub fn remove(&self, base: u64) -> Option<Arc<Mutex<dyn MmioDevice>>> {
        self.places().find_map(|place| place.empty(base))
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
        let Some((held, start)) = self.places().find_map(|place| place.hold(address)) else {
            return false;
        };
        let Some(device) = &*held else { return false };
        // A panic in another access is that access's misfortune, not this guest's.
        let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
        access(&mut *device, address - start);
        true
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        let rows = successors(Some(&self.first), |row| row.next.get().map(Box::as_ref));
        rows.flat_map(|row| &row.places)
    }

    /// For whoever holds `inserting`.
    fn free_place(&self) -> &Place {
        let mut row = &self.first;
        loop {
            match row.places.iter().find(|place| place.range().is_none()) {
                Some(place) => return place,
                None => row = row.next.get_or_init(Box::default),
            }
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
        let bus = Bus::new();
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
        let bus = Bus::new();
        bus.insert(0x1000, 0x10, tape()).unwrap();
        for address in [0, 0xfff, 0x1010, u64::MAX] {
            assert!(!bus.write(address, &[0]), "{address:#x}");
        }
    }

    #[test]
    fn ranges_may_touch_but_not_overlap() {
        let bus = Bus::new();
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
    fn a_removed_device_belongs_to_the_caller_and_its_place_is_free() {
        let bus = Bus::new();
        bus.insert(0x1000, 0x100, tape()).unwrap();
        bus.insert(0x1100, 0x100, tape()).unwrap();
        assert!(bus.remove(0x1001).is_none(), "a device is named by its first address");
        let mut removed = bus.remove(0x1000).unwrap();
        assert!(Arc::get_mut(&mut removed).is_some(), "there is no other owner");
        assert!(!bus.write(0x1000, &[0]));
        assert!(bus.write(0x1100, &[0]), "its neighbour stays");
        assert!(bus.remove(0x1000).is_none());
        bus.insert(0x1080, 0x80, tape()).unwrap();
        assert!(bus.write(0x10ff, &[0]));
        assert!(!bus.write(0x107f, &[0]));
    }

    #[test]
    fn more_devices_than_a_row_has_places_are_found_and_leave() {
        let bus = Bus::new();
        let bases = (0..100).map(|n| n * 0x10);
        bases.clone().for_each(|base| bus.insert(base, 0x10, tape()).unwrap());
        assert!(bases.clone().all(|base| bus.write(base + 0xf, &[0])));
        assert!(bases.clone().all(|base| bus.remove(base).is_some()));
        assert!(bases.clone().all(|base| !bus.write(base, &[0])));
        bus.insert(0, u64::MAX, tape()).unwrap();
        assert!(bases.clone().all(|base| bus.write(base, &[0])));
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
        let bus = Bus::new();
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
