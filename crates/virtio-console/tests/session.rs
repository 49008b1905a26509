//! A session of the driver of `virtio_drivers` from another day. `CUBIE_RECORD=1` records it anew.

use std::time::Duration;

use cubie_testkit::{Guest, GuestHal, within};
use cubie_virtio_console::{Console, Memory, WindowSize};
use virtio_drivers::device::console::VirtIOConsole;

const DEADLINE: Duration = Duration::from_secs(60);
/// What the host does.
const TYPES: &str = "the person types";
const RESIZES: &str = "the person makes the window larger";

/// A console, and what the host does with it at each note.
fn console() -> (Box<Console<Memory>>, impl FnMut(&str)) {
    let (memory, person) = Memory::new().unwrap();
    let console = Console::new(memory, WindowSize { columns: 80, rows: 25 });
    let resizer = console.resizer();
    let host = move |note: &str| match note {
        TYPES => person.type_in(b"typed"),
        RESIZES => resizer.resize(WindowSize { columns: 132, rows: 43 }),
        _ => panic!("the host does not know what to do: {note}"),
    };
    (Box::new(console), host)
}

#[test]
fn a_session_of_another_day_is_answered_as_it_was() {
    within(DEADLINE, || {
        let (device, mut host) = console();
        let slot = Guest::new().socket().recorded().plug(device);
        let mut driver = VirtIOConsole::<GuestHal, _>::new(slot.transport()).unwrap();
        slot.wait_interrupt(DEADLINE);
        driver.send_bytes(b"what is your name? ").unwrap();
        slot.note(TYPES);
        host(TYPES);
        let typed = [(); 5].map(|()| {
            loop {
                if let Some(byte) = driver.recv(true).unwrap() {
                    break byte;
                }
            }
        });
        driver.send_bytes(&typed).unwrap();
        slot.note(RESIZES);
        host(RESIZES);
        driver.size().unwrap();
        drop(driver);

        let recording = slot.recording().keep("tests/words.session").unwrap();
        let (device, host) = console();
        let played = recording.player().on_note(host).play(device).unwrap();
        assert_eq!(played.chains, 3);
    });
}
