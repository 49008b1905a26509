//! Labs that start, are shared, hang and end; each test in a runtime folder of its own.

use crate::{eventually, script, stdout};
use cubie_armlab::{Lab, Machine, RunOptions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::{fs, thread};
use tempfile::TempDir;

/// A runtime folder; the labs in it end with it.
struct Runtime(TempDir);

impl Runtime {
    fn new() -> Runtime {
        Runtime(tempfile::tempdir().unwrap())
    }

    fn script(&self, text: &str) -> Command {
        self.apply(script(text))
    }

    fn apply(&self, mut command: Command) -> Command {
        command.env("XDG_RUNTIME_DIR", self.0.path());
        command
    }

    fn status(&self) -> String {
        stdout(&mut self.apply(crate::armlab(&["status"])))
    }

    /// Process id of the only lab's QEMU.
    fn qemu(&self) -> String {
        let status = self.status();
        let (_, rest) = status.split_once("QEMU is process ").unwrap();
        rest.split_once(',').unwrap().0.to_owned()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        stdout(&mut self.apply(crate::armlab(&["stop"])));
    }
}

fn is_alive(pid: &str) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
}

#[test]
fn two_runners_that_come_together_share_one_lab_which_ends_when_idle() {
    let runtime = Runtime::new();
    let machine = || {
        let mut command = runtime.script("cat /proc/sys/kernel/random/boot_id");
        stdout(command.env("ARMLAB_IDLE", "1"))
    };
    let (one, other) = thread::scope(|scope| {
        let one = scope.spawn(machine);
        (machine(), one.join().unwrap())
    });
    assert_eq!(one, other);
    let mode = fs::metadata(runtime.0.path().join("armlab")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    eventually("the lab ends", || runtime.status().is_empty());
}

#[test]
fn a_lab_that_hangs_is_ended_and_the_next_run_gets_another() {
    let runtime = Runtime::new();
    let mut run = runtime.script("echo up; exec sleep 1000");
    let mut run = run.env("ARMLAB_HEARTBEAT", "3").spawn().unwrap();
    let mut up = [0; 3];
    std::io::Read::read_exact(run.stdout.as_mut().unwrap(), &mut up).unwrap();
    let qemu = runtime.qemu();
    signal("-STOP", &qemu);
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(124));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("not answered for 3 s") && message.contains("console.log"),
        "{message}"
    );
    assert!(!is_alive(&qemu));
    assert_eq!(stdout(&mut runtime.script("echo again")), "again\n");
}

#[test]
fn a_lab_dies_with_its_keeper_and_a_run_in_it_says_so() {
    let runtime = Runtime::new();
    let mut run = runtime.script("echo up; exec sleep 1000").stdin(Stdio::null()).spawn().unwrap();
    let mut up = [0; 3];
    std::io::Read::read_exact(run.stdout.as_mut().unwrap(), &mut up).unwrap();
    let qemu = runtime.qemu();
    let status = fs::read_to_string(format!("/proc/{qemu}/status")).unwrap();
    let keeper = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap();
    signal("-KILL", keeper);
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("the lab ended during the run"), "{message}");
    eventually("QEMU ends", || !is_alive(&qemu));
}

#[test]
fn a_gicv3_lab_has_a_gicv3() {
    let runtime = Runtime::new();
    let log = stdout(runtime.script("dmesg").env("ARMLAB_GIC", "3"));
    assert!(log.contains("GICv3: CPU0: found redistributor"), "{log}");
    assert!(log.contains("Hyp mode initialized successfully"), "{log}");
}

#[test]
fn the_library_starts_a_lab_and_collects_the_output_of_commands() {
    let lab = Lab::open(&Machine { memory: 1024, ..Machine::default() }).unwrap();
    let run = |script: &str, input: &[u8]| {
        lab.output(&RunOptions::new(["sh", "-c", script]).unwrap(), input).unwrap()
    };
    let output = run("cat; echo err >&2; exit 3", b"in");
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"in"[..], &b"err\n"[..]));
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(run("echo unread", &[0; 1 << 20]).stdout, b"unread\n");
    lab.stop().unwrap();
}

#[test]
fn a_wrong_setting_is_named() {
    let output = script("true").env("ARMLAB_GIC", "4").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("ARMLAB_GIC=4") && message.contains("must be 2 or 3"), "{message}");
}

#[test]
fn a_machine_without_qemu_gets_the_command_to_install_it() {
    let runtime = Runtime::new();
    let output = runtime.script("true").env("PATH", "/nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("apt-get install qemu-system-arm"), "{message}");
}
