//! The console behind the legacy interface, through the driver of `virtio-drivers`.

use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, within};
use cubie_virtio_console::{Console, Memory, WindowSize};
use virtio_drivers::device::console::{Size, VirtIOConsole};

const DEADLINE: Duration = Duration::from_secs(20);
const INTERRUPT_STATUS: u32 = 0x60;
const CONFIG_CHANGED: u32 = 2;

#[test]
fn a_legacy_driver_types_prints_and_is_told_the_size_although_it_came_early() {
    within(DEADLINE, || {
        let (memory, person) = Memory::new().unwrap();
        let size = WindowSize { columns: 80, rows: 25 };
        let slot = Guest::new().socket().legacy().plug(Box::new(Console::new(memory, size)));
        let mut hvc = VirtIOConsole::<GuestHal, _>::new(slot.transport()).unwrap();
        assert_eq!(slot.register(INTERRUPT_STATUS) & CONFIG_CHANGED, CONFIG_CHANGED);
        assert_eq!(hvc.size(), Ok(Some(Size { columns: 80, rows: 25 })));
        person.type_in(b"ls");
        let mut typed = vec![];
        while typed.len() < 2 {
            typed.extend(hvc.recv(true).unwrap());
        }
        assert_eq!(typed, b"ls");
        hvc.send_bytes(b"etc").unwrap();
        assert_eq!(person.wait_for(3, DEADLINE), b"etc");
    });
}
