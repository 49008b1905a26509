//! The ways out of a program, each in a process of its own.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::channel;
use std::thread;

use cubie_testkit::within;
use cubie_virtio_console::{Messages, Terminal, TerminalEvent, restore_terminals};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::pty::{DEADLINE, Pty, ROLE};

/// What a child does once its terminal is raw.
#[test]
#[ignore = "a part of the other tests, which start it in a process of its own"]
fn child_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (sender, events) = channel();
    let terminal = Terminal::open(move |event| {
        let _ = sender.send(event);
    })
    .unwrap();
    terminal.writer().unwrap().write_all(b"raw").unwrap();
    match role.as_str() {
        "panic" => drop(thread::spawn(|| panic!("of a device")).join()),
        "stubborn" => thread::park_timeout(DEADLINE),
        "exit" => {
            events.recv().unwrap();
            restore_terminals();
            std::process::exit(7);
        }
        "orderly" => {
            let event = events.recv().unwrap();
            writeln!(Messages, "one\ntwo {event:?}").unwrap();
        }
        role => panic!("no part {role}"),
    }
    // After a panic, the rest of the program still runs for a while.
    if role == "panic" {
        assert_eq!(events.recv(), Ok(TerminalEvent::Quit));
    }
}

/// Plays `part` in a process of its own, whose terminal is raw.
fn raw(part: &str) -> (Pty, Child) {
    let mut pty = Pty::new();
    let child = pty.child(part);
    pty.read_until("raw");
    assert!(pty.is_raw());
    (pty, child)
}

fn ended(mut child: Child) -> ExitStatus {
    child.wait().unwrap()
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_panic_in_any_thread_restores_the_terminal_before_its_message() {
    within(DEADLINE, || {
        let mut pty = Pty::new();
        let child = pty.child("panic");
        let seen = pty.read_until("of a device\r\n");
        assert!(seen.contains("panicked at"), "{seen}");
        assert!(!pty.is_raw());
        pty.type_in(b"\x01x\n");
        assert!(ended(child).success());
    });
}

#[test]
fn a_program_that_exits_restores_the_terminal_by_hand() {
    within(DEADLINE, || {
        let (mut pty, child) = raw("exit");
        pty.type_in(b"\x01x");
        assert_eq!(ended(child).code(), Some(7));
        assert!(!pty.is_raw());
    });
}

#[test]
fn the_first_signal_asks_for_an_orderly_end() {
    within(DEADLINE, || {
        for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
            let (mut pty, child) = raw("orderly");
            send(&child, signal);
            pty.read_until(&format!("one\r\ntwo Terminated({})\r\n", signal.as_raw()));
            assert!(ended(child).success());
            assert!(!pty.is_raw());
        }
    });
}

#[test]
fn the_second_signal_ends_the_program_with_its_terminal_restored() {
    within(DEADLINE, || {
        let (pty, child) = raw("stubborn");
        // Of two kinds, since those of one merge while they are pending.
        send(&child, Signal::TERM);
        send(&child, Signal::INT);
        let end = ended(child).signal();
        assert!([SIGINT, SIGTERM].map(Some).contains(&end), "{end:?}");
        assert!(!pty.is_raw());
    });
}

#[test]
fn the_help_begins_each_line_at_the_left() {
    within(DEADLINE, || {
        let (mut pty, child) = raw("orderly");
        pty.type_in(b"\x01c");
        let seen = pty.read_until("to the guest\r\n");
        assert!(seen.contains("\r\nCtrl-A x  "), "{seen}");
        pty.type_in(b"\x01x");
        pty.read_until("two Quit\r\n");
        assert!(ended(child).success());
    });
}
