//! What the standard calls registers and bits.

use cubie_virtio_core::Features;
use virtio_bindings::virtio_mmio::*;

use crate::raw::QUEUE_RESET;

/// Registers, of both interfaces (VIRTIO 1.4 §4.2.2, §4.2.4).
const REGISTERS: [(u32, &str); 32] = [
    (VIRTIO_MMIO_MAGIC_VALUE, "MagicValue"),
    (VIRTIO_MMIO_VERSION, "Version"),
    (VIRTIO_MMIO_DEVICE_ID, "DeviceID"),
    (VIRTIO_MMIO_VENDOR_ID, "VendorID"),
    (VIRTIO_MMIO_DEVICE_FEATURES, "DeviceFeatures"),
    (VIRTIO_MMIO_DEVICE_FEATURES_SEL, "DeviceFeaturesSel"),
    (VIRTIO_MMIO_DRIVER_FEATURES, "DriverFeatures"),
    (VIRTIO_MMIO_DRIVER_FEATURES_SEL, "DriverFeaturesSel"),
    (VIRTIO_MMIO_GUEST_PAGE_SIZE, "GuestPageSize"),
    (VIRTIO_MMIO_QUEUE_SEL, "QueueSel"),
    (VIRTIO_MMIO_QUEUE_NUM_MAX, "QueueNumMax"),
    (VIRTIO_MMIO_QUEUE_NUM, "QueueNum"),
    (VIRTIO_MMIO_QUEUE_ALIGN, "QueueAlign"),
    (VIRTIO_MMIO_QUEUE_PFN, "QueuePFN"),
    (VIRTIO_MMIO_QUEUE_READY, "QueueReady"),
    (VIRTIO_MMIO_QUEUE_NOTIFY, "QueueNotify"),
    (VIRTIO_MMIO_INTERRUPT_STATUS, "InterruptStatus"),
    (VIRTIO_MMIO_INTERRUPT_ACK, "InterruptACK"),
    (VIRTIO_MMIO_STATUS, "Status"),
    (VIRTIO_MMIO_QUEUE_DESC_LOW, "QueueDescLow"),
    (VIRTIO_MMIO_QUEUE_DESC_HIGH, "QueueDescHigh"),
    (VIRTIO_MMIO_QUEUE_AVAIL_LOW, "QueueDriverLow"),
    (VIRTIO_MMIO_QUEUE_AVAIL_HIGH, "QueueDriverHigh"),
    (VIRTIO_MMIO_QUEUE_USED_LOW, "QueueDeviceLow"),
    (VIRTIO_MMIO_QUEUE_USED_HIGH, "QueueDeviceHigh"),
    (VIRTIO_MMIO_SHM_SEL, "SHMSel"),
    (VIRTIO_MMIO_SHM_LEN_LOW, "SHMLenLow"),
    (VIRTIO_MMIO_SHM_LEN_HIGH, "SHMLenHigh"),
    (VIRTIO_MMIO_SHM_BASE_LOW, "SHMBaseLow"),
    (VIRTIO_MMIO_SHM_BASE_HIGH, "SHMBaseHigh"),
    (QUEUE_RESET, "QueueReset"),
    (VIRTIO_MMIO_CONFIG_GENERATION, "ConfigGeneration"),
];

/// Device status (VIRTIO 1.4 §2.1).
const STATUS: [(u32, &str); 6] = [
    (1 << 0, "ACKNOWLEDGE"),
    (1 << 1, "DRIVER"),
    (1 << 2, "DRIVER_OK"),
    (1 << 3, "FEATURES_OK"),
    (1 << 6, "DEVICE_NEEDS_RESET"),
    (1 << 7, "FAILED"),
];

const INTERRUPTS: [(u32, &str); 2] =
    [(VIRTIO_MMIO_INT_VRING, "used-buffers"), (VIRTIO_MMIO_INT_CONFIG, "configuration")];

/// Features that are not the device type's own.
const FEATURES: [(Features, &str); 7] = [
    (Features::INDIRECT, "INDIRECT_DESC"),
    (Features::EVENT_IDX, "EVENT_IDX"),
    (Features::VERSION_1, "VERSION_1"),
    (Features::PACKED, "RING_PACKED"),
    (Features::IN_ORDER, "IN_ORDER"),
    (Features::NOTIFICATION_DATA, "NOTIFICATION_DATA"),
    (Features::RING_RESET, "RING_RESET"),
];

/// The register at `offset`.
pub(super) fn register(offset: u32) -> Option<&'static str> {
    REGISTERS.iter().find(|(at, _)| *at == offset).map(|(_, name)| *name)
}

/// What is in a register, as it is best read. `word` is the selected word of features.
pub(super) fn value(offset: u32, value: u32, word: u32) -> String {
    match offset {
        VIRTIO_MMIO_STATUS => bits(value, &STATUS),
        VIRTIO_MMIO_INTERRUPT_STATUS | VIRTIO_MMIO_INTERRUPT_ACK => bits(value, &INTERRUPTS),
        VIRTIO_MMIO_DEVICE_FEATURES | VIRTIO_MMIO_DRIVER_FEATURES => features(value, word),
        VIRTIO_MMIO_MAGIC_VALUE | VIRTIO_MMIO_VENDOR_ID => format!("{value:#x}"),
        VIRTIO_MMIO_QUEUE_DESC_LOW..=QUEUE_RESET => format!("{value:#x}"),
        _ => value.to_string(),
    }
}

fn bits(value: u32, names: &[(u32, &str)]) -> String {
    let known = names.iter().filter(|(bit, _)| value & bit != 0).map(|(_, name)| *name);
    let rest = names.iter().fold(value, |rest, (bit, _)| rest & !bit);
    let rest = (rest != 0).then(|| format!("{rest:#x}"));
    or_nothing(known.map(str::to_owned).chain(rest).collect())
}

fn features(value: u32, word: u32) -> String {
    if word > 1 {
        return format!("{value:#x}");
    }
    let numbers = (0..32).filter(|bit| value >> bit & 1 != 0).map(|bit| 32 * word + bit);
    let name = |number| {
        let known = FEATURES.iter().find(|(feature, _)| *feature == Features::bit(number));
        known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
    };
    or_nothing(numbers.map(name).collect())
}

fn or_nothing(names: Vec<String>) -> String {
    if names.is_empty() { "0".to_owned() } else { names.join(" ") }
}
