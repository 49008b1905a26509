//! A pseudo terminal: what the person would see and type, and what a program finds.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use cubie_virtio_console::{Terminal, TerminalEvent};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, OutputModes, Winsize, tcgetattr, tcsetwinsize};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Tells the test binary, started as a child, what to do.
pub(crate) const ROLE: &str = "CUBIE_TERMINAL_TEST_ROLE";

pub(crate) struct Pty {
    /// The person's side.
    pub(crate) person: File,
    /// The program's side.
    pub(crate) program: OwnedFd,
}

impl Pty {
    pub(crate) fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let program = ioctl_tiocgptpeer(&person, flags).unwrap();
        let this = Self { person: person.into(), program };
        this.resize(80, 25);
        this
    }

    pub(crate) fn end(&self) -> OwnedFd {
        self.program.try_clone().unwrap()
    }

    /// Keyboard and screen of one terminal, and its events.
    pub(crate) fn terminal(&self) -> (Terminal, Receiver<TerminalEvent>) {
        terminal(self.end(), self.end())
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.program, size).unwrap();
    }

    pub(crate) fn is_raw(&self) -> bool {
        let settings = tcgetattr(&self.program).unwrap();
        let cooked = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        let output = settings.output_modes.contains(OutputModes::OPOST);
        match settings.local_modes & cooked {
            modes if modes.is_empty() && !output => true,
            modes if modes == cooked && output => false,
            modes => panic!("neither raw nor cooked: {modes:?}"),
        }
    }

    pub(crate) fn type_in(&mut self, bytes: &[u8]) {
        self.person.write_all(bytes).unwrap();
    }

    /// Reads the screen until it has shown `text`.
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        let mut seen = vec![];
        while !String::from_utf8_lossy(&seen).contains(text) {
            let mut piece = [0; 256];
            let count = self.person.read(&mut piece).unwrap();
            seen.extend(&piece[..count]);
        }
        String::from_utf8(seen).unwrap()
    }

    /// This test binary in another process, on this terminal, in the part `role`. It heeds all signals,
    /// even if these tests were started with some ignored, as `nohup` and a shell's background jobs are.
    pub(crate) fn child(&self, role: &str) -> Child {
        let mut command = Command::new("/usr/bin/env");
        command
            .arg("--default-signal")
            .arg(std::env::current_exe().unwrap())
            .args(["children::child_process", "--exact", "--ignored", "--nocapture"])
            .env(ROLE, role);
        command.stdin(self.end()).stdout(self.end()).stderr(self.end()).spawn().unwrap()
    }
}

pub(crate) fn terminal(keyboard: OwnedFd, screen: OwnedFd) -> (Terminal, Receiver<TerminalEvent>) {
    let (sender, events) = channel();
    let terminal = Terminal::with(keyboard, screen, move |event| {
        let _ = sender.send(event);
    });
    (terminal.unwrap(), events)
}

/// Waits for `count` bytes typed that have come through the terminal.
pub(crate) fn read_guest(input: &OwnedFd, count: usize) -> Vec<u8> {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut bytes = vec![0; count];
    let mut got = 0;
    while got < count {
        poll(&mut [PollFd::new(input, PollFlags::IN)], None).unwrap();
        got += rustix::io::read(input, &mut bytes[got..]).unwrap();
    }
    bytes
}
