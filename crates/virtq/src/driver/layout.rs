//! Where a ring lies, chosen by its driver.

use vm_memory::{Bytes, GuestAddress};

use crate::memory::{Part, Table, Translator, Window};
use crate::{Features, QueueError, QueueParams, packed, split};

/// The parts begin on cache lines of their own: each is written by one side only.
const CACHE_LINE: u64 = 64;

fn shape(size: u16, features: Features) -> [Part; 3] {
    if features.has(Features::PACKED) { packed::shape(size) } else { split::shape(size) }
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
    part: Part,
    address: u64,
    memory: &mut Translator,
) -> Result<Window<ALIGN>, QueueError> {
    let window = memory.part(part, address)?;
    let (part, len, _) = part;
    let zeroed = memory.memory().write_slice(&vec![0; len], GuestAddress(address));
    zeroed.map_err(|_| QueueError::Ring { part, address })?;
    Ok(window)
}
