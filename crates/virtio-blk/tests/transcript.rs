//! What the driver of `virtio_drivers` and the device do to each other, line by line.

use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, within};
use cubie_virtio_blk::{Blk, MemoryDisk, Serial};
use expect_test::expect;
use virtio_drivers::device::blk::{SECTOR_SIZE, VirtIOBlk};

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn a_driver_finds_a_disk_and_reads_a_sector() {
    within(DEADLINE, || {
        let disk = MemoryDisk::new(vec![7; 8 * SECTOR_SIZE]);
        let serial = "a-disk".parse::<Serial>().unwrap();
        let slot = Guest::new().socket().recorded().plug(Box::new(Blk::new(disk, serial)));
        let mut disk = VirtIOBlk::<GuestHal, _>::new(slot.transport()).unwrap();
        expect![[r#"
            writes Status: 0
            writes Status: ACKNOWLEDGE DRIVER
            writes DeviceFeaturesSel: 0
            reads  DeviceFeatures: 1 2 6 9 10 11 13 14 INDIRECT_DESC EVENT_IDX
            writes DeviceFeaturesSel: 1
            reads  DeviceFeatures: VERSION_1 RING_PACKED IN_ORDER RING_RESET
            writes DriverFeaturesSel: 0
            writes DriverFeatures: 9 INDIRECT_DESC EVENT_IDX
            writes DriverFeaturesSel: 1
            writes DriverFeatures: VERSION_1
            writes Status: ACKNOWLEDGE DRIVER FEATURES_OK
            reads  Version: 2
            reads  ConfigGeneration: 0
            reads  configuration 0x0: 08 00 00 00
            reads  configuration 0x4: 00 00 00 00
            reads  ConfigGeneration: 0
            reads  Version: 2
            writes QueueSel: 0
            reads  QueueReady: 0
            writes QueueSel: 0
            reads  QueueNumMax: 256
            reads  Version: 2
            writes QueueSel: 0
            writes QueueNum: 16
            reads  Version: 2
            writes QueueDescLow: 0x40000000
            writes QueueDescHigh: 0x0
            writes QueueDriverLow: 0x40000100
            writes QueueDriverHigh: 0x0
            writes QueueDeviceLow: 0x40001000
            writes QueueDeviceHigh: 0x0
            writes QueueReady: 1
            writes Status: ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK
        "#]]
        .assert_eq(&slot.transcript());
        disk.read_blocks(3, &mut [0; SECTOR_SIZE]).unwrap();
        slot.wait_interrupt(DEADLINE);
        expect![[r#"
            lends  queue 0, chain 0: 16 to read (00 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00), 512 to write, 1 to write
            kicks  queue 0
            takes  queue 0, chain 0: 513 written, 512 at 0 (07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 …), 1 at 512 (00)
            takes  the interrupt
        "#]].assert_eq(&slot.transcript());
    });
}
