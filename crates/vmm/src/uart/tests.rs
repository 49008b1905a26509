use std::io::Read;
use std::sync::Mutex;

use super::*;

const DATA: u64 = 0;
const INTERRUPT_ENABLE: u64 = 4;
const MODEM_CONTROL: u64 = 4 * MCR;
const LINE_STATUS: u64 = 20;
const SCRATCH: u64 = 28;

fn uart() -> Uart {
    Uart::new(Box::new(io::sink())).unwrap()
}

fn read<const N: usize>(uart: &mut Uart, offset: u64) -> [u8; N] {
    let mut data = [0xff; N];
    uart.read(offset, &mut data);
    data
}

#[test]
fn registers_take_loads_and_stores_of_any_width() {
    let mut uart = uart();
    uart.write(SCRATCH, &[0x12, 0xff, 0xff, 0xff]);
    assert_eq!(read(&mut uart, SCRATCH), [0x12]);
    uart.write(SCRATCH, &[0x34, 0xff]);
    assert_eq!(read(&mut uart, SCRATCH), [0x34, 0]);
    uart.write(SCRATCH, &[0x56]);
    assert_eq!(read(&mut uart, SCRATCH), [0x56, 0, 0, 0]);
}

#[test]
fn between_and_beyond_the_registers_is_nothing() {
    let mut uart = uart();
    uart.write(SCRATCH, &[0x12]);
    for offset in [SCRATCH + 1, SCRATCH + 3, 32, 0x7c, 0x3fc] {
        uart.write(offset, &[0xff; 4]);
        assert_eq!(read(&mut uart, offset), [0; 4], "{offset:#x}");
    }
    assert_eq!(read(&mut uart, SCRATCH), [0x12]);
}

#[test]
fn what_the_guest_sends_is_written() {
    let (mut paper, output) = io::pipe().unwrap();
    let mut uart = Uart::new(Box::new(output)).unwrap();
    for byte in b"Booting Linux" {
        uart.write(DATA, &u32::from(*byte).to_le_bytes());
    }
    uart.flush();
    let mut printed = [0; 64];
    let len = paper.read(&mut printed).unwrap();
    assert_eq!(&printed[..len], b"Booting Linux", "all of it, in one piece by then");
}

#[test]
fn input_that_does_not_fit_stays_with_the_caller_until_there_is_room() {
    let mut uart = uart();
    let room = uart.room().unwrap();
    assert_eq!(uart.enqueue(&[b'x'; 100]), 64);
    assert_eq!(uart.enqueue(b"y"), 0);
    for _ in 0..63 {
        assert_eq!(read(&mut uart, DATA), [b'x']);
    }
    assert!(room.read().is_err(), "one byte is left");
    assert_eq!(read(&mut uart, DATA), [b'x']);
    assert_eq!(room.read().unwrap(), 1);
    assert_eq!(uart.enqueue(b"y"), 1);
}

#[test]
fn input_waits_for_the_end_of_a_loopback() {
    let mut uart = uart();
    let room = uart.room().unwrap();
    uart.write(MODEM_CONTROL, &[0x10]);
    let _ = room.read();
    assert_eq!(uart.enqueue(b"x"), 0);
    uart.write(MODEM_CONTROL, &[0]);
    assert!(room.read().is_ok());
    assert_eq!(uart.enqueue(b"x"), 1);
}

#[test]
fn input_interrupts_through_the_line_of_the_machine() {
    let mut uart = uart();
    let line = EventFd::new(EFD_NONBLOCK).unwrap();
    uart.connect(Interrupt::new(line.try_clone().unwrap()));
    uart.write(INTERRUPT_ENABLE, &[1]);
    assert!(line.read().is_err());
    uart.enqueue(b"x");
    assert_eq!(line.read().unwrap(), 1);
}

#[test]
fn the_next_machine_finds_a_uart_that_was_reset() {
    let mut uart = uart();
    let (old, new) = (EventFd::new(EFD_NONBLOCK), EventFd::new(EFD_NONBLOCK));
    let (old, new) = (old.unwrap(), new.unwrap());
    uart.connect(Interrupt::new(old.try_clone().unwrap()));
    uart.write(INTERRUPT_ENABLE, &[1]);
    uart.write(SCRATCH, &[0x12]);
    uart.enqueue(b"x");
    assert_eq!(old.read().unwrap(), 1);

    uart.connect(Interrupt::new(new.try_clone().unwrap()));
    assert_eq!(read(&mut uart, SCRATCH), [0]);
    assert_eq!(read(&mut uart, LINE_STATUS), [0x60], "idle, no input");
    uart.write(INTERRUPT_ENABLE, &[1]);
    uart.enqueue(b"y");
    assert!(old.read().is_err());
    assert_eq!(new.read().unwrap(), 1);
}

#[test]
fn what_is_fed_arrives_in_order_however_slowly_the_guest_reads() {
    let uart = Arc::new(Mutex::new(uart()));
    let (input, mut typed) = io::pipe().unwrap();
    let feeder = Uart::feed(Arc::clone(&uart), input.into()).unwrap();
    let text: Vec<u8> = (0..1000u32).map(|i| (i % 251) as u8).collect();
    typed.write_all(&text).unwrap();
    drop(typed);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let mut got = vec![];
    while got.len() < text.len() {
        assert!(std::time::Instant::now() < deadline, "only {} bytes arrive", got.len());
        let mut uart = uart.lock().unwrap();
        if read::<1>(&mut uart, LINE_STATUS)[0] & 1 != 0 {
            got.extend(read::<1>(&mut uart, DATA));
        }
    }
    assert_eq!(got, text);
    feeder.join().unwrap();
}
