//! The person's terminal: a pty with the example on its other side.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::ttyname;

use crate::vm::{Vm, arg, example, host};

/// The example at a terminal of 33 rows and 99 columns.
pub(crate) struct Seat {
    pub(crate) vm: Vm,
    pub(crate) terminal: OwnedFd,
}

impl Seat {
    fn take(args: &str) -> Self {
        Self::with(example(args))
    }

    /// In a session of its own, whose controlling terminal this is: window changes are told to it. When
    /// it ends, Linux hangs the terminal up, and nothing can be asked of it any more.
    pub(crate) fn take_session(args: &str) -> Self {
        let example = example(args);
        let mut command = Command::new("setsid");
        command.arg("-c").arg(example.get_program()).args(example.get_args());
        Self::with(command)
    }

    fn with(mut command: Command) -> Self {
        let size = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let vm = Vm::new(child, master.try_clone().unwrap(), master);
        Self { vm, terminal: slave }
    }

    fn is_raw(&self) -> bool {
        let cooked = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        match tcgetattr(&self.terminal).unwrap().local_flags & cooked {
            flags if flags.is_empty() => true,
            flags if flags == cooked => false,
            flags => panic!("neither raw nor cooked: {flags:?}"),
        }
    }
}

#[test]
fn the_window_size_reaches_the_guest_and_follows_a_resize() {
    let mut seat = Seat::take_session("--arch arm64 --network none");
    seat.vm.shell_is_up();
    assert_eq!(seat.vm.run("stty size"), "33 99");
    let name = arg(ttyname(&seat.terminal).unwrap());
    host(&format!("stty -F {name} rows 44 cols 111"));
    seat.vm.ask_until("stty size", "44 111");

    seat.vm.send("\x01x");
    assert!(seat.vm.wait().success());
}

#[test]
fn control_a_and_a_key_speak_to_the_vmm_and_control_a_twice_to_the_guest() {
    let mut seat = Seat::take("--arch arm64 --network none");
    seat.vm.shell_is_up();
    assert!(seat.is_raw());
    seat.vm.send("\x01c");
    seat.vm.expect("Ctrl-A x");
    seat.vm.send("\x01s");
    seat.vm.expect("no network card");
    seat.vm.run("stty -icanon -echo");
    seat.vm.send("head -c 2 | hexdump -v -e '1/1 \"<%02x>\"'\n");
    seat.vm.send("\x01\x01z");
    seat.vm.expect("<01><7a>");
    seat.vm.send("\x01x");
    assert!(seat.vm.wait().success());
    assert!(!seat.is_raw());
}

#[test]
fn a_signal_ends_the_vmm_with_its_terminal_restored() {
    for (signal, status) in [("TERM", 143), ("HUP", 129), ("INT", 130)] {
        let mut seat = Seat::take("--arch arm64 --network none");
        seat.vm.expect("Ctrl-A c helps");
        assert!(seat.is_raw());
        host(&format!("kill -{signal} {}", seat.vm.pid()));
        assert_eq!(seat.vm.wait().code(), Some(status), "SIG{signal}");
        assert!(!seat.is_raw(), "SIG{signal}");
    }
}
