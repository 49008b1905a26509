//! Configuration space (VIRTIO 1.4 §2.5).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cubie_vm_irq::Interrupt;

/// Another place where a driver reads the bytes.
pub(crate) trait Mirror: Send {
    /// The bytes and their generation from now on. A driver sees all of it or nothing.
    fn publish(&self, bytes: &[u8], generation: u32);
}

#[derive(Default)]
struct Space {
    bytes: Vec<u8>,
    generation: u32,
    /// Changes that are made and not told yet.
    telling: usize,
    changed: Option<Interrupt>,
    mirror: Option<Box<dyn Mirror>>,
}

/// A device's configuration space: bytes that the driver reads, and that the device may change at any
/// time from any thread.
///
/// A shared handle. The device makes it from the bytes of its `#[repr(C)]` config structure, the
/// transport reads it, and who changes it (a terminal's resize, a link that goes down) holds a clone.
#[derive(Clone, Default)]
pub struct Config(Arc<Mutex<Space>>);

impl Config {
    /// A space with these bytes, little endian fields.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(Mutex::new(Space { bytes: bytes.into(), ..Space::default() })))
    }

    /// Copies what lies at `offset`; beyond the end reads zero.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        data.fill(0);
        let space = self.lock();
        if let Some(there) = space.bytes.get(offset..) {
            let len = there.len().min(data.len());
            data[..len].copy_from_slice(&there[..len]);
        }
    }

    /// Changes with every [`Config::update`], so that a driver can tell that it read a mixture.
    pub fn generation(&self) -> u32 {
        self.lock().generation
    }

    /// Bytes of the space.
    pub fn len(&self) -> usize {
        self.lock().bytes.len()
    }

    /// True for a device without configuration.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes the bytes at once, as far as a driver can see, and tells it.
    pub fn update(&self, change: impl FnOnce(&mut [u8])) {
        let changed = {
            let mut space = self.lock();
            change(&mut space.bytes);
            space.generation = space.generation.wrapping_add(1);
            space.telling += 1;
            space.publish();
            space.changed.clone()
        };
        if let Some(changed) = changed {
            changed.trigger();
        }
        self.lock().telling -= 1;
    }

    /// The bytes and their generation, and whether a driver has yet to be told of them.
    pub(crate) fn save(&self) -> (Vec<u8>, u32, bool) {
        let space = self.lock();
        (space.bytes.clone(), space.generation, space.telling > 0)
    }

    /// What [`Config::save`] returned of another space of this length. No driver is told: it knows.
    pub(crate) fn restore(&self, bytes: &[u8], generation: u32) {
        let mut space = self.lock();
        space.bytes.copy_from_slice(bytes);
        space.generation = generation;
        space.publish();
    }

    /// Who is told of changes from now on: the transport that the device is plugged into.
    pub fn connect(&self, changed: Option<Interrupt>) {
        let mut space = self.lock();
        space.changed = changed;
        space.mirror = None;
    }

    /// From now on drivers read the bytes in `mirror` as well, as long as the device is connected.
    pub(crate) fn mirror(&self, mirror: impl Mirror + 'static) {
        let mut space = self.lock();
        space.mirror = Some(Box::new(mirror));
        space.publish();
    }

    fn lock(&self) -> MutexGuard<'_, Space> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Space {
    fn publish(&self) {
        if let Some(mirror) = &self.mirror {
            mirror.publish(&self.bytes, self.generation);
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = self.lock();
        let mut config = f.debug_struct("Config");
        config.field("bytes", &space.bytes).field("generation", &space.generation).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::eventfd::EventFd;

    #[test]
    fn reads_beyond_the_end_are_zero() {
        let config = Config::new([1, 2, 3]);
        let mut data = [9; 4];
        config.read(2, &mut data);
        assert_eq!(data, [3, 0, 0, 0]);
        config.read(usize::MAX, &mut data);
        assert_eq!(data, [0; 4]);
    }

    #[test]
    fn a_change_is_seen_by_clones_numbered_and_told() {
        let told = EventFd::new(0).unwrap();
        let config = Config::new([0; 2]);
        config.connect(Some(Interrupt::new(told.try_clone().unwrap())));
        let before = config.generation();
        config.clone().update(|bytes| bytes[1] = 7);
        assert_ne!(config.generation(), before);
        assert_eq!(told.read().unwrap(), 1);
        let mut data = [0; 2];
        config.read(0, &mut data);
        assert_eq!(data, [0, 7]);
    }
}
