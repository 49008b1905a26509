//! What the driver of `virtio_drivers` and the device do to each other, line by line.

use std::io;
use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, within};
use cubie_virtio_rng::{EntropySource, Rng};
use expect_test::expect;
use virtio_drivers::device::rng::VirtIORng;

const DEADLINE: Duration = Duration::from_secs(20);

/// As random as any number.
struct Nine;

impl EntropySource for Nine {
    fn fill(&mut self, data: &mut [u8]) -> io::Result<()> {
        data.fill(9);
        Ok(())
    }
}

#[test]
fn a_driver_finds_the_device_and_asks_for_bytes() {
    within(DEADLINE, || {
        let slot = Guest::new().socket().recorded().plug(Box::new(Rng::new(Nine)));
        let mut driver = VirtIORng::<GuestHal, _>::new(slot.transport()).unwrap();
        expect![[r#"
            writes Status: 0
            writes Status: ACKNOWLEDGE DRIVER
            writes DeviceFeaturesSel: 0
            reads  DeviceFeatures: INDIRECT_DESC EVENT_IDX
            writes DeviceFeaturesSel: 1
            reads  DeviceFeatures: VERSION_1 RING_PACKED IN_ORDER RING_RESET
            writes DriverFeaturesSel: 0
            writes DriverFeatures: INDIRECT_DESC EVENT_IDX
            writes DriverFeaturesSel: 1
            writes DriverFeatures: VERSION_1
            writes Status: ACKNOWLEDGE DRIVER FEATURES_OK
            reads  Version: 2
            writes QueueSel: 0
            reads  QueueReady: 0
            writes QueueSel: 0
            reads  QueueNumMax: 16
            reads  Version: 2
            writes QueueSel: 0
            writes QueueNum: 8
            reads  Version: 2
            writes QueueDescLow: 0x40000000
            writes QueueDescHigh: 0x0
            writes QueueDriverLow: 0x40000080
            writes QueueDriverHigh: 0x0
            writes QueueDeviceLow: 0x40001000
            writes QueueDeviceHigh: 0x0
            writes QueueReady: 1
            writes Status: ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK
        "#]]
        .assert_eq(&slot.transcript());
        driver.request_entropy(&mut [0; 5]).unwrap();
        slot.wait_interrupt(DEADLINE);
        expect![[r#"
            lends  queue 0, chain 0: 5 to write
            kicks  queue 0
            takes  queue 0, chain 0: 5 written, 5 at 0 (09 09 09 09 09)
            takes  the interrupt
        "#]]
        .assert_eq(&slot.transcript());
    });
}
