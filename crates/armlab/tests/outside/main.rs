//! The lab from outside, through its command line. On an ARM64 machine there is no lab.
#![cfg(not(target_arch = "aarch64"))]

mod files;
mod lifecycle;
mod streams;
mod terminal;

use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// `armlab` with arguments, all streams piped. Signals do what they usually do, even if these tests were
/// started with some ignored, as `nohup` and a shell's background jobs are.
fn armlab(arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/env");
    command.args(["--default-signal", env!("CARGO_BIN_EXE_armlab")]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A shell script in the lab.
fn script(text: &str) -> Command {
    armlab(&["run", "sh", "-c", text])
}

/// Standard output of a command that must succeed.
fn stdout(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// How a program ended, which it must do soon.
fn ended(run: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually("the program's end", || {
        status = run.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// Asks again and again, until yes or a deadline.
fn eventually(what: &str, mut question: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !question() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
