//! What the driver of `virtio_drivers` and the console do to each other, line by line.

use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, within};
use cubie_virtio_console::{Console, Memory, WindowSize};
use expect_test::expect;
use virtio_drivers::device::console::VirtIOConsole;

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn a_driver_finds_a_console_reads_writes_and_sees_it_resized() {
    within(DEADLINE, || {
        let (memory, person) = Memory::new().unwrap();
        let console = Console::new(memory, WindowSize { columns: 80, rows: 25 });
        let resizer = console.resizer();
        let slot = Guest::new().socket().recorded().plug(Box::new(console));
        let mut hvc = VirtIOConsole::<GuestHal, _>::new(slot.transport()).unwrap();
        slot.wait_interrupt(DEADLINE);
        expect![[r#"
            writes Status: 0
            writes Status: ACKNOWLEDGE DRIVER
            writes DeviceFeaturesSel: 0
            reads  DeviceFeatures: 0 INDIRECT_DESC EVENT_IDX
            writes DeviceFeaturesSel: 1
            reads  DeviceFeatures: VERSION_1 RING_PACKED IN_ORDER RING_RESET
            writes DriverFeaturesSel: 0
            writes DriverFeatures: 0 INDIRECT_DESC EVENT_IDX
            writes DriverFeaturesSel: 1
            writes DriverFeatures: VERSION_1
            writes Status: ACKNOWLEDGE DRIVER FEATURES_OK
            reads  Version: 2
            writes QueueSel: 0
            reads  QueueReady: 0
            writes QueueSel: 0
            reads  QueueNumMax: 64
            reads  Version: 2
            writes QueueSel: 0
            writes QueueNum: 2
            reads  Version: 2
            writes QueueDescLow: 0x40000000
            writes QueueDescHigh: 0x0
            writes QueueDriverLow: 0x40000020
            writes QueueDriverHigh: 0x0
            writes QueueDeviceLow: 0x40001000
            writes QueueDeviceHigh: 0x0
            writes QueueReady: 1
            reads  Version: 2
            writes QueueSel: 1
            reads  QueueReady: 0
            writes QueueSel: 1
            reads  QueueNumMax: 64
            reads  Version: 2
            writes QueueSel: 1
            writes QueueNum: 2
            reads  Version: 2
            writes QueueDescLow: 0x40002000
            writes QueueDescHigh: 0x0
            writes QueueDriverLow: 0x40002020
            writes QueueDriverHigh: 0x0
            writes QueueDeviceLow: 0x40003000
            writes QueueDeviceHigh: 0x0
            writes QueueReady: 1
            writes Status: ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK
            finds  the configuration changed: 50 00 19 00 00 00 00 00 00 00 00 00
            lends  queue 0, chain 0: 4096 to write
            kicks  queue 0
            takes  the interrupt
        "#]]
        .assert_eq(&slot.transcript());
        slot.note("the person types");
        person.type_in(b"a");
        while hvc.recv(true).unwrap().is_none() {}
        hvc.send_bytes(b"an answer").unwrap();
        expect![[r#"
            -- the person types
            takes  queue 0, chain 0: 1 written, 1 at 0 (61)
            lends  queue 0, chain 0: 4096 to write
            kicks  queue 0
            lends  queue 1, chain 0: 9 to read (61 6e 20 61 6e 73 77 65 72)
            kicks  queue 1
            takes  queue 1, chain 0: 0 written
        "#]]
        .assert_eq(&slot.transcript());
        slot.note("the person makes the window larger");
        resizer.resize(WindowSize { columns: 132, rows: 43 });
        hvc.size().unwrap();
        expect![[r#"
            -- the person makes the window larger
            finds  the configuration changed: 84 00 2b 00 00 00 00 00 00 00 00 00
            reads  ConfigGeneration: 2
            reads  configuration 0x0: 84 00
            reads  configuration 0x2: 2b 00
            reads  ConfigGeneration: 2
        "#]]
        .assert_eq(&slot.transcript());
    });
}
