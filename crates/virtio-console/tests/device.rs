//! The console through the driver of `virtio-drivers`, and through one without manners.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use cubie_testkit::{Descriptor, Guest, GuestHal, RawDriver, RegisterTransport, Slot, within};
use cubie_virtio_console::{Console, Memory, Stream, WindowSize};
use cubie_virtio_core::{Features, VirtioDevice};
use rustix::io::ioctl_fionbio;
use rustix::pipe::fcntl_setpipe_size;
use virtio_drivers::device::console::{Size, VirtIOConsole};
use virtio_drivers::transport::InterruptStatus;

const DEADLINE: Duration = Duration::from_secs(20);
const MIB: usize = 1 << 20;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

type Hvc = VirtIOConsole<GuestHal, RegisterTransport>;

fn driver(slot: &Slot) -> Hvc {
    Hvc::new(slot.transport()).unwrap()
}

fn size(columns: u16, rows: u16) -> WindowSize {
    WindowSize { columns, rows }
}

/// A console on two pipes of one page each, and their other ends: keyboard and screen.
fn narrow() -> (Console<Stream>, io::PipeWriter, io::PipeReader) {
    let ((input, keyboard), (screen, output)) = (io::pipe().unwrap(), io::pipe().unwrap());
    let (input, output) = (OwnedFd::from(input), OwnedFd::from(output));
    for end in [&input, &output] {
        fcntl_setpipe_size(end, 4096).unwrap();
        ioctl_fionbio(end, true).unwrap();
    }
    let backend = Stream::new(input, output).unwrap();
    (Console::new(backend, WindowSize::default()), keyboard, screen)
}

/// Bytes of which no two pieces are alike.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

fn receive(hvc: &mut Hvc, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        bytes.extend(hvc.recv(true).unwrap());
    }
    bytes
}

#[test]
fn what_is_typed_arrives_and_what_is_printed_appears() {
    within(DEADLINE, || {
        let (memory, person) = Memory::new().unwrap();
        person.type_in(b"before the start;");
        let slot = Guest::new().plug(Box::new(Console::new(memory, size(80, 25))));
        let mut hvc = driver(&slot);
        person.type_in(b"after it");
        assert_eq!(receive(&mut hvc, 25), b"before the start;after it");
        hvc.send_bytes(b"hello, ").unwrap();
        hvc.send(b'w').unwrap();
        assert_eq!(person.wait_for(8, DEADLINE), b"hello, w");
        assert_eq!(hvc.recv(true), Ok(None));
    });
}

#[test]
fn a_mebibyte_passes_each_way_through_pipes_of_a_page() {
    within(DEADLINE, || {
        let (console, mut keyboard, mut screen) = narrow();
        let slot = Guest::new().plug(Box::new(console));
        let mut hvc = driver(&slot);

        let typist = thread::spawn(move || keyboard.write_all(&pattern(MIB)).map(|()| keyboard));
        assert!(receive(&mut hvc, MIB) == pattern(MIB), "the guest gets what was typed");
        let _keyboard = typist.join().unwrap().unwrap();

        let reader = thread::spawn(move || {
            let mut seen = vec![0; MIB];
            screen.read_exact(&mut seen).map(|()| seen)
        });
        for chunk in pattern(MIB).chunks(100_000) {
            hvc.send_bytes(chunk).unwrap();
        }
        assert!(
            reader.join().unwrap().unwrap() == pattern(MIB),
            "the person sees what was printed"
        );
    });
}

#[test]
fn a_console_offers_its_size_and_nothing_else() {
    let (memory, _person) = Memory::new().unwrap();
    assert_eq!(Console::new(memory, size(80, 25)).features(), Features(1 << 0));
}

#[test]
fn a_resize_changes_the_configuration_and_interrupts_once() {
    within(DEADLINE, || {
        let (memory, _person) = Memory::new().unwrap();
        let console = Console::new(memory, size(80, 25));
        let resizer = console.resizer();
        let slot = Guest::new().plug(Box::new(console));
        let mut hvc = driver(&slot);
        assert_eq!(hvc.size(), Ok(Some(Size { columns: 80, rows: 25 })));
        assert_eq!(slot.wait_interrupt(DEADLINE), 1, "a driver is told of the first size, too");
        resizer.resize(size(132, 43));
        assert_eq!(slot.wait_interrupt(DEADLINE), 1);
        assert_eq!(hvc.size(), Ok(Some(Size { columns: 132, rows: 43 })));
        assert_eq!(hvc.ack_interrupt(), Ok(false), "no input came");
        resizer.resize(size(132, 43));
        assert!(slot.interrupt().read().is_err(), "nothing has changed");
    });
}

#[test]
fn a_config_interrupt_says_so() {
    within(DEADLINE, || {
        let (memory, _person) = Memory::new().unwrap();
        let console = Console::new(memory, size(80, 25));
        let resizer = console.resizer();
        let slot = Guest::new().socket().trapped().plug(Box::new(console));
        let mut driver = RawDriver::new(&slot, Features::default(), &[4, 4]);
        resizer.resize(size(1, 2));
        slot.wait_interrupt(DEADLINE);
        let why = virtio_drivers::transport::Transport::ack_interrupt(driver.transport());
        assert!(why == InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT);
    });
}

#[test]
fn nothing_typed_is_lost_while_the_driver_comes_and_goes() {
    within(DEADLINE, || {
        let (memory, person) = Memory::new().unwrap();
        let guest = Guest::new();
        let mut device: Box<dyn VirtioDevice> = Box::new(Console::new(memory, size(80, 25)));
        for round in 0..20u8 {
            let slot = guest.plug(device);
            for driver_of_round in 0..2 {
                let mut hvc = driver(&slot);
                person.type_in(&[round; 100]);
                assert_eq!(receive(&mut hvc, 100), [round; 100]);
                hvc.send_bytes(&[driver_of_round; 100]).unwrap();
                assert_eq!(person.wait_for(100, DEADLINE), [driver_of_round; 100]);
            }
            device = slot.unplug();
            person.type_in(b"unplugged");
            let slot = guest.socket().trapped().plug(device);
            assert_eq!(receive(&mut driver(&slot), 9), b"unplugged");
            device = slot.unplug();
        }
    });
}

#[test]
fn a_screen_that_takes_nothing_holds_up_neither_input_nor_stop() {
    within(DEADLINE, || {
        let (console, mut keyboard, mut screen) = narrow();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(console));
        let mut driver = RawDriver::new(&slot, Features::default(), &[4, 4]);
        let (long, room) = (guest.buffer(10_000), guest.buffer(16));
        driver.offer(TRANSMIT, &[Descriptor::readable(long.0, 10_000)]);
        driver.offer(RECEIVE, &[Descriptor::writable(room.0, 16)]);
        keyboard.write_all(b"still here").unwrap();
        assert_eq!(driver.wait_used(RECEIVE, DEADLINE).written, 10);
        assert_eq!(driver.used(TRANSMIT), None, "a page is in the pipe, the rest in the ring");
        drop(slot.unplug());
        let mut seen = vec![];
        screen.read_to_end(&mut seen).unwrap();
        assert_eq!(seen.len(), 4096);
    });
}

#[test]
fn a_screen_that_was_closed_lets_the_guest_go_on() {
    within(DEADLINE, || {
        let (console, keyboard, screen) = narrow();
        drop((keyboard, screen));
        let slot = Guest::new().plug(Box::new(console));
        let mut hvc = driver(&slot);
        for _ in 0..100 {
            hvc.send_bytes(&[b'x'; 1000]).unwrap();
        }
        assert_eq!(hvc.recv(true), Ok(None), "the end of input is not input");
    });
}

#[test]
fn requests_without_room_or_data_are_given_back() {
    within(DEADLINE, || {
        let (memory, person) = Memory::new().unwrap();
        let guest = Guest::new();
        let slot = guest.plug(Box::new(Console::new(memory, size(80, 25))));
        let mut driver = RawDriver::new(&slot, Features::default(), &[4, 4]);
        let buffer = guest.buffer(8);
        person.type_in(b"typed");
        let wrong = driver.offer(RECEIVE, &[Descriptor::readable(buffer.0, 8)]);
        let used = driver.wait_used(RECEIVE, DEADLINE);
        assert_eq!((used.head, used.written), (wrong.into(), 0));
        let wrong = driver.offer(TRANSMIT, &[Descriptor::writable(buffer.0, 8)]);
        let used = driver.wait_used(TRANSMIT, DEADLINE);
        assert_eq!((used.head, used.written), (wrong.into(), 0));
        driver.offer(RECEIVE, &[Descriptor::writable(buffer.0, 8)]);
        assert_eq!(driver.wait_used(RECEIVE, DEADLINE).written, 5, "the device goes on");
    });
}
