//! Runs on a terminal.

use crate::{armlab, ended};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A terminal with somebody in front of it, and a program on it.
struct Terminal {
    person: File,
    peer: OwnedFd,
    screen: Receiver<Vec<u8>>,
    seen: String,
    before: String,
}

impl Terminal {
    fn new() -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let peer = ioctl_tiocgptpeer(&master, flags).unwrap();
        let person = File::from(master);
        let mut reader = person.try_clone().unwrap();
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = reader.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let before = settings(&tcgetattr(&peer).unwrap());
        Terminal { person, peer, screen, seen: String::new(), before }
    }

    fn run(&self, script: &str) -> Child {
        let stream = || self.peer.try_clone().unwrap();
        let mut command = armlab(&["run", "sh", "-c", script]);
        command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap()
    }

    fn resize(&self, ws_row: u16, ws_col: u16) {
        tcsetwinsize(&self.peer, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    fn press(&mut self, keys: &str) {
        self.person.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` has appeared, and forgets everything up to it.
    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.screen.recv_timeout(left) else {
                panic!("«{text}» did not appear, but: {:?}", self.seen)
            };
            self.seen += &String::from_utf8_lossy(&bytes);
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.peer).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    fn assert_restored(&self) {
        assert_eq!(settings(&tcgetattr(&self.peer).unwrap()), self.before);
    }
}

fn settings(termios: &Termios) -> String {
    format!("{termios:?}")
}

#[test]
fn control_c_goes_to_the_command_and_the_terminal_is_restored() {
    let mut terminal = Terminal::new();
    let mut run = terminal.run("trap 'echo caught; exit 5' INT; tty; while :; do sleep 1; done");
    terminal.expect("/dev/pts/");
    assert!(terminal.is_raw());
    terminal.press("\x03");
    terminal.expect("caught\r\n");
    assert_eq!(ended(&mut run).code(), Some(5));
    terminal.assert_restored();
}

#[test]
fn keys_are_echoed_once_and_control_d_ends_the_input() {
    let mut terminal = Terminal::new();
    let mut run = terminal.run("echo start; cat; echo end");
    terminal.expect("start\r\n");
    terminal.press("one\n");
    terminal.expect("one\r\none\r\n");
    terminal.press("\x04");
    terminal.expect("end\r\n");
    assert!(ended(&mut run).success());
}

#[test]
fn the_window_has_the_same_size_inside_and_follows_it() {
    let mut terminal = Terminal::new();
    terminal.resize(33, 77);
    let mut run =
        terminal.run("trap 'stty size; exit' WINCH; stty size; while :; do sleep 1; done");
    terminal.expect("33 77");
    terminal.resize(44, 88);
    signal("-WINCH", &run); // the kernel sends it to the terminal's own session only
    terminal.expect("44 88");
    assert!(ended(&mut run).success());
}

#[test]
fn the_terminal_is_restored_when_the_runner_is_told_to_end() {
    for name in ["-TERM", "-HUP"] {
        let mut terminal = Terminal::new();
        let mut run = terminal.run("echo up; exec sleep 1000");
        terminal.expect("up");
        assert!(terminal.is_raw());
        signal(name, &run);
        assert!(!ended(&mut run).success());
        terminal.assert_restored();
    }
}

#[test]
fn the_terminal_is_restored_after_an_error() {
    let terminal = Terminal::new();
    let stream = || terminal.peer.try_clone().unwrap();
    let mut command = armlab(&["run", "sleep", "1000"]);
    command.stdin(stream()).stdout(stream()).stderr(stream()).env("ARMLAB_TIMEOUT", "1");
    assert_eq!(command.status().unwrap().code(), Some(124));
    terminal.assert_restored();
}

fn signal(name: &str, run: &Child) {
    assert!(Command::new("kill").args([name, &run.id().to_string()]).status().unwrap().success());
}
