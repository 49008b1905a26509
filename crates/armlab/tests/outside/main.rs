//! The lab from outside, through its command line. On an ARM64 machine there is no lab.
#![cfg(not(target_arch = "aarch64"))]

mod files;
mod lifecycle;
mod streams;
mod terminal;

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// `armlab` with arguments, all streams piped.
fn armlab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_armlab"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
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

/// Asks again and again, until yes or a deadline.
fn eventually(what: &str, mut question: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !question() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
