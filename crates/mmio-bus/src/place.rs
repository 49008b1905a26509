//! One place of the bus, free or with a device.
//!
//! Places with a lock each, and not a table that is replaced as a whole: `Bus::remove` can wait for the
//! accesses to its device and for no others, and an old table keeps nobody's device alive.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::MmioDevice;

pub(crate) type Device = Arc<Mutex<dyn MmioDevice>>;

/// A range and who answers there.
///
/// The range is read by everybody and changes only while `device` is locked. That lock is the bus's own,
/// held as long as an access lasts; the device's, inside it, is shared with the device's other owners.
#[derive(Default)]
pub(crate) struct Place {
    start: AtomicU64,
    /// 0 while the place is free.
    end: AtomicU64,
    device: Mutex<Option<Device>>,
}

impl Place {
    /// The range, if there is a device. Of a place that changes hands meanwhile it may be one that never was.
    pub(crate) fn range(&self) -> Option<Range<u64>> {
        let end = self.end.load(Ordering::Acquire);
        let start = self.start.load(Ordering::Acquire);
        (end != 0).then_some(start..end)
    }

    /// Puts `device` at `range`. The place is free, and the caller the only one who fills places.
    pub(crate) fn fill(&self, range: Range<u64>, device: Device) {
        let mut place = self.lock();
        *place = Some(device);
        self.start.store(range.start, Ordering::Release);
        self.end.store(range.end, Ordering::Release);
    }

    /// Takes the device away whose range begins at `base`, when nobody holds it any more.
    pub(crate) fn empty(&self, base: u64) -> Option<Device> {
        let (mut device, _) = self.lock_if(|range| range.start == base)?;
        self.end.store(0, Ordering::Release);
        device.take()
    }

    /// The device that holds `address`, and where its range begins. It stays here until the lock goes.
    pub(crate) fn hold(&self, address: u64) -> Option<(MutexGuard<'_, Option<Device>>, u64)> {
        let (device, range) = self.lock_if(|range| range.contains(&address))?;
        Some((device, range.start))
    }

    /// The place, locked, if its range is `wanted`. Looks first without the lock, which an access may hold
    /// for long, and again with it: the place may have changed hands meanwhile.
    fn lock_if(
        &self,
        wanted: impl Fn(&Range<u64>) -> bool,
    ) -> Option<(MutexGuard<'_, Option<Device>>, Range<u64>)> {
        self.range().filter(&wanted)?;
        let device = self.lock();
        let range = self.range().filter(&wanted)?;
        Some((device, range))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Device>> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
