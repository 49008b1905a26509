//! What no driver may do to the console.

use cubie_virtio_console::{Console, Memory, WindowSize};
use cubie_virtio_core::VirtioDevice;

/// With somebody who has typed already.
fn console() -> Box<dyn VirtioDevice> {
    let (memory, person) = Memory::new().unwrap();
    person.type_in(&[b'x'; 10_000]);
    Box::new(Console::new(memory, WindowSize { columns: 80, rows: 25 }))
}

cubie_testkit::hostile!(console);
