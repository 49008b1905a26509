//! Where a ring lies, chosen by its driver.

use vm_memory::{Bytes, GuestAddress};

use super::DESC_SIZE;
use crate::memory::{Table, Translator, Window};
use crate::{Features, QueueError, QueueParams};

/// The parts begin on cache lines of their own: each is written by one side only.
const CACHE_LINE: u64 = 64;

/// Bytes and alignment of the three parts.
type Shape = [(&'static str, usize, usize); 3];

/// VIRTIO 1.4 §2.7 (split), §2.8.10 (packed).
fn shape(size: u16, features: Features) -> Shape {
    let n = usize::from(size);
    if features.has(Features::PACKED) {
        [
            ("descriptor ring", DESC_SIZE * n, 16),
            ("driver event suppression structure", 4, 4),
            ("device event suppression structure", 4, 4),
        ]
    } else {
        [
            ("descriptor table", DESC_SIZE * n, 16),
            ("available ring", 6 + 2 * n, 2),
            ("used ring", 6 + 8 * n, 4),
        ]
    }
}

impl QueueParams {
    /// A ring of `size` descriptors laid out from guest address `base` on (a multiple of 16): where its
    /// parts lie, and how many bytes they take together.
    ///
    /// ```
    /// use cubie_virtq::{Features, QueueParams};
    ///
    /// let (params, bytes) = QueueParams::contiguous(0x1000, 256, Features::VERSION_1);
    /// assert_eq!((params.desc, params.driver, params.device), (0x1000, 0x2000, 0x2240));
    /// assert_eq!(bytes, 0x1a46);
    /// ```
    pub fn contiguous(base: u64, size: u16, features: Features) -> (Self, u64) {
        let [desc, driver, device] = shape(size, features).map(|(_, len, _)| len as u64);
        let driver_at = (base + desc).next_multiple_of(CACHE_LINE);
        let device_at = (driver_at + driver).next_multiple_of(CACHE_LINE);
        let params = Self { size, desc: base, driver: driver_at, device: device_at };
        (params, device_at + device - base)
    }
}

/// Descriptor area, driver area, device area.
pub(super) type Parts<const DRIVER: usize> = (Table, Window<DRIVER>, Window<4>);

/// The parts in host memory, zeroed.
pub(super) fn fresh_parts<const DRIVER: usize>(
    params: &QueueParams,
    features: Features,
    memory: &mut Translator,
) -> Result<Parts<DRIVER>, QueueError> {
    let [desc, driver, device] = shape(params.size, features);
    Ok((
        fresh(desc, params.desc, memory)?,
        fresh(driver, params.driver, memory)?,
        fresh(device, params.device, memory)?,
    ))
}

fn fresh<const ALIGN: usize>(
    (part, len, align): (&'static str, usize, usize),
    address: u64,
    memory: &mut Translator,
) -> Result<Window<ALIGN>, QueueError> {
    let window = memory.part(part, address, len, align)?;
    let zeroed = memory.memory().write_slice(&vec![0; len], GuestAddress(address));
    zeroed.map_err(|_| QueueError::Ring { part, address })?;
    Ok(window)
}
