//! What the driver of `virtio_drivers` and the card do to each other, line by line.

use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, within};
use cubie_virtio_net::{Loopback, Mac, Net};
use expect_test::expect;
use virtio_drivers::device::net::VirtIONetRaw;

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn a_driver_finds_a_card_and_sends_a_frame() {
    within(DEADLINE, || {
        let net = Net::new(Loopback::new().unwrap(), Mac::made_from("test"));
        let slot = Guest::new().socket().recorded().plug(Box::new(net));
        let mut card = VirtIONetRaw::<GuestHal, _, 16>::new(slot.transport()).unwrap();
        expect![[r#"
            writes Status: 0
            writes Status: ACKNOWLEDGE DRIVER
            writes DeviceFeaturesSel: 0
            reads  DeviceFeatures: 5 15 16 17 18 19 20 21 23 INDIRECT_DESC EVENT_IDX
            writes DeviceFeaturesSel: 1
            reads  DeviceFeatures: VERSION_1 RING_PACKED IN_ORDER RING_RESET 52 53
            writes DriverFeaturesSel: 0
            writes DriverFeatures: 5 16 INDIRECT_DESC EVENT_IDX
            writes DriverFeaturesSel: 1
            writes DriverFeatures: VERSION_1
            writes Status: ACKNOWLEDGE DRIVER FEATURES_OK
            reads  Version: 2
            reads  ConfigGeneration: 0
            reads  configuration 0x0: e6
            reads  configuration 0x1: ef
            reads  configuration 0x2: 19
            reads  configuration 0x3: 7c
            reads  configuration 0x4: d2
            reads  configuration 0x5: c3
            reads  ConfigGeneration: 0
            reads  configuration 0x6: 01 00
            reads  Version: 2
            writes QueueSel: 1
            reads  QueueReady: 0
            writes QueueSel: 1
            reads  QueueNumMax: 256
            reads  Version: 2
            writes QueueSel: 1
            writes QueueNum: 16
            reads  Version: 2
            writes QueueDescLow: 0x40000000
            writes QueueDescHigh: 0x0
            writes QueueDriverLow: 0x40000100
            writes QueueDriverHigh: 0x0
            writes QueueDeviceLow: 0x40001000
            writes QueueDeviceHigh: 0x0
            writes QueueReady: 1
            reads  Version: 2
            writes QueueSel: 0
            reads  QueueReady: 0
            writes QueueSel: 0
            reads  QueueNumMax: 256
            reads  Version: 2
            writes QueueSel: 0
            writes QueueNum: 16
            reads  Version: 2
            writes QueueDescLow: 0x40002000
            writes QueueDescHigh: 0x0
            writes QueueDriverLow: 0x40002100
            writes QueueDriverHigh: 0x0
            writes QueueDeviceLow: 0x40003000
            writes QueueDeviceHigh: 0x0
            writes QueueReady: 1
            writes Status: ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK
        "#]]
        .assert_eq(&slot.transcript());
        card.send(b"a frame that is long enough").unwrap();
        card.receive_wait(&mut [0; 1526]).unwrap();
        expect![[r#"
            lends  queue 1, chain 0: 12 to read (00 00 00 00 00 00 00 00 00 00 00 00), 27 to read (61 20 66 72 61 6d 65 20 74 68 61 74 20 69 73 20 …)
            kicks  queue 1
            takes  queue 1, chain 0: 0 written
            lends  queue 0, chain 0: 1526 to write
            kicks  queue 0
            takes  queue 0, chain 0: 39 written, 39 at 0 (00 00 00 00 00 00 00 00 00 00 01 00 61 20 66 72 …)
        "#]].assert_eq(&slot.transcript());
    });
}
