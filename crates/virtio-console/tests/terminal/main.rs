//! The terminal on a pseudo terminal, on pipes and on files.

mod children;
mod pty;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::thread;

use cubie_testkit::{Guest, GuestHal, within};
use cubie_virtio_console::{Console, TerminalEvent, WindowSize};
use pty::{DEADLINE, Pty, read_guest, terminal};
use rustix::fs::{OFlags, fcntl_getfl};
use signal_hook::consts::SIGWINCH;
use virtio_drivers::device::console::VirtIOConsole;

#[test]
fn raw_mode_lasts_as_long_as_the_terminal() {
    let pty = Pty::new();
    assert!(!pty.is_raw());
    let (terminal, _events) = pty.terminal();
    assert!(pty.is_raw());
    drop(terminal);
    assert!(!pty.is_raw());
}

#[test]
fn keys_reach_the_guest_and_escapes_the_program() {
    within(DEADLINE, || {
        let mut pty = Pty::new();
        let (terminal, events) = pty.terminal();
        pty.type_in(b"ls\r\x03\x01\x01\x01zb\x01x");
        assert_eq!(read_guest(&terminal.reader().unwrap(), 6), b"ls\r\x03\x01b");
        assert_eq!(events.recv(), Ok(TerminalEvent::Quit));
    });
}

#[test]
fn escapes_work_when_the_guest_reads_nothing() {
    within(DEADLINE, || {
        let mut pty = Pty::new();
        let (terminal, events) = pty.terminal();
        pty.type_in(&[b'x'; 200_000]);
        pty.type_in(b"\x01x");
        assert_eq!(events.recv(), Ok(TerminalEvent::Quit));
        // The first keys are kept, as many as the pipe takes in the pieces in which they came.
        assert_eq!(read_guest(&terminal.reader().unwrap(), 16384), [b'x'; 16384]);
    });
}

#[test]
fn output_arrives_unchanged_and_before_the_end() {
    within(DEADLINE, || {
        let mut pty = Pty::new();
        let (terminal, _events) = pty.terminal();
        terminal.writer().unwrap().write_all(b"one\ntwo\r\n\x1b[31mred").unwrap();
        drop(terminal);
        assert_eq!(pty.read_until("red"), "one\ntwo\r\n\x1b[31mred");
    });
}

#[test]
fn a_window_that_changes_says_so() {
    within(DEADLINE, || {
        let pty = Pty::new();
        let (terminal, events) = pty.terminal();
        assert_eq!(terminal.size(), WindowSize { columns: 80, rows: 25 });
        pty.resize(132, 43);
        signal_hook::low_level::raise(SIGWINCH).unwrap();
        let size = WindowSize { columns: 132, rows: 43 };
        assert_eq!(events.recv(), Ok(TerminalEvent::Resized(size)));
        assert_eq!(terminal.size(), size);
    });
}

#[test]
fn a_pipe_as_input_loses_nothing_and_its_end_ends_nothing() {
    within(DEADLINE, || {
        let ((keyboard, mut typist), (mut person, screen)) =
            (io::pipe().unwrap(), io::pipe().unwrap());
        let (terminal, events) = terminal(keyboard.into(), screen.into());
        let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| b'a' + (n % 23) as u8).collect();
        let typed = bytes.clone();
        let typist = thread::spawn(move || typist.write_all(&typed));
        assert_eq!(terminal.size(), WindowSize::default());
        assert!(read_guest(&terminal.reader().unwrap(), bytes.len()) == bytes);
        typist.join().unwrap().unwrap();
        terminal.writer().unwrap().write_all(b"still here").unwrap();
        let mut seen = [0; 10];
        person.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"still here");
        assert!(events.try_recv().is_err());
    });
}

#[test]
fn files_will_do() {
    within(DEADLINE, || {
        let mut screen = tempfile::tempfile().unwrap();
        let keyboard = File::open("/dev/null").unwrap();
        let (terminal, _events) = terminal(keyboard.into(), screen.try_clone().unwrap().into());
        terminal.writer().unwrap().write_all(b"to a file").unwrap();
        drop(terminal);
        let mut seen = String::new();
        io::Seek::rewind(&mut screen).unwrap();
        screen.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "to a file");
    });
}

#[test]
fn a_stuck_screen_blocks_neither_writers_nor_escapes_nor_the_end() {
    within(DEADLINE, || {
        let mut pty = Pty::new();
        let (_person, screen) = io::pipe().unwrap();
        let (terminal, events) = terminal(pty.end(), screen.into());
        let mut writer = terminal.writer().unwrap();
        for _ in 0..64 {
            writer.write_all(&[b'x'; 1 << 16]).unwrap();
        }
        pty.type_in(b"\x01x");
        assert_eq!(events.recv(), Ok(TerminalEvent::Quit));
        drop(terminal);
        assert!(!pty.is_raw());
    });
}

#[test]
fn a_screen_that_was_closed_lets_the_guest_print_on() {
    within(DEADLINE, || {
        let pty = Pty::new();
        let (person, screen) = io::pipe().unwrap();
        drop(person);
        let (terminal, _events) = terminal(pty.end(), screen.into());
        let console = Console::new(terminal.backend().unwrap(), terminal.size());
        let slot = Guest::new().plug(Box::new(console));
        let mut hvc = VirtIOConsole::<GuestHal, _>::new(slot.transport()).unwrap();
        // More than the pipe between holds.
        for _ in 0..64 {
            hvc.send_bytes(&[b'x'; 1 << 16]).unwrap();
        }
    });
}

#[test]
fn what_is_shared_with_the_shell_stays_blocking() {
    let pty = Pty::new();
    let (person, screen) = io::pipe().unwrap();
    let ours = screen.try_clone().unwrap();
    let (terminal, _events) = terminal(pty.end(), screen.into());
    terminal.writer().unwrap().write_all(b"x").unwrap();
    for fd in [pty.program.as_fd(), ours.as_fd()] {
        assert!(!fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK));
    }
    drop((terminal, person));
}
