//! What a driver has said so far: selectors, features, queues. All of it is gone with a reset.

use cubie_virtq::Features;

use super::legacy::USUAL_PAGE;
use super::queues::QueueSetup;

/// A driver's view of the device.
pub(crate) struct Setup {
    pub(crate) device_features_select: u32,
    pub(crate) driver_features_select: u32,
    pub(crate) driver_features: Features,
    pub(crate) queue_select: u32,
    pub(crate) shared_memory_select: u32,
    pub(crate) queues: Vec<QueueSetup>,
    /// What a legacy driver counts the queues' places in: bytes, a power of two.
    pub(crate) guest_page_size: u32,
    /// The device was started, and serves what is ready of the queues.
    pub(crate) live: bool,
    /// The configuration's generation just before.
    pub(crate) generation: u32,
}

impl Setup {
    pub(crate) fn new(sizes: &[u16]) -> Self {
        Self {
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: Features::default(),
            queue_select: 0,
            shared_memory_select: 0,
            queues: sizes.iter().copied().map(QueueSetup::new).collect(),
            guest_page_size: USUAL_PAGE,
            live: false,
            generation: 0,
        }
    }

    /// The queue that QueueSel names, if there is such a one.
    pub(crate) fn queue(&self) -> Option<&QueueSetup> {
        self.queues.get(self.queue_select as usize)
    }

    /// See [`Setup::queue`].
    pub(crate) fn queue_mut(&mut self) -> Option<&mut QueueSetup> {
        self.queues.get_mut(self.queue_select as usize)
    }
}

/// Word `select` of a 64-bit feature set; there are no features beyond.
pub(crate) fn feature_word(features: Features, select: u32) -> u32 {
    match select {
        0 | 1 => half(features.0, select == 1),
        _ => 0,
    }
}

/// The low or high half of `whole`.
pub(crate) fn half(whole: u64, high: bool) -> u32 {
    (whole >> if high { 32 } else { 0 }) as u32
}

/// `old` with its low or high half replaced.
pub(crate) fn with_half(old: u64, high: bool, half: u32) -> u64 {
    match high {
        false => old & !0xffff_ffff | u64::from(half),
        true => old & 0xffff_ffff | u64::from(half) << 32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_features_beyond_word_one() {
        let features = Features(0x1111_2222_3333_4444);
        let words: Vec<_> = [0, 1, 2, u32::MAX].map(|s| feature_word(features, s)).into();
        assert_eq!(words, [0x3333_4444, 0x1111_2222, 0, 0]);
    }

    #[test]
    fn halves_are_replaced_apart() {
        assert_eq!(with_half(0x1111_2222_3333_4444, false, 7), 0x1111_2222_0000_0007);
        assert_eq!(with_half(0x1111_2222_3333_4444, true, 7), 0x0000_0007_3333_4444);
    }
}
