//! A running example, driven through its console as a person would.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::standstill;

/// What anything may take at most; an emulated guest boots in 20 seconds.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// The two kinds of guest, as `--arch` names them.
pub(crate) const ARMV7: &str = "armv7";
pub(crate) const ARM64: &str = "arm64";

/// Whether the environment has `CUBIE_LONG`: a test that moves bytes, or does a thing again and again, then does as
/// much of it as a release is tried with, and otherwise as little as shows the same.
pub(crate) fn long() -> bool {
    std::env::var_os("CUBIE_LONG").is_some()
}

/// The example's command with these arguments, split at spaces.
pub(crate) fn example(args: &str) -> Command {
    // target/…/deps/machine-… → target/…/examples/cubietruck-vm
    let test = std::env::current_exe().unwrap();
    let example = test.ancestors().nth(2).unwrap().join("examples/cubietruck-vm");
    let mut command = Command::new(example);
    // Under emulation, 32-bit guests crash at random without it (docs/lab.md).
    command.arg("--pin").args(args.split_whitespace());
    command
}

/// A guest behind its console.
pub(crate) struct Vm {
    child: Child,
    input: Option<Box<dyn Write>>,
    output: Receiver<Vec<u8>>,
    /// What has arrived and was not yet expected.
    unread: String,
    /// All that has arrived, for the message of a failure.
    transcript: String,
}

impl Vm {
    /// Starts the example and waits for the guest's shell.
    pub(crate) fn boot(arch: &str, args: &str) -> Self {
        let mut vm = Self::start(example(&format!("--arch {arch} {args}")));
        vm.shell_is_up();
        vm
    }

    /// Starts the example with pipes.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self::new(child, OwnedFd::from(input), OwnedFd::from(output))
    }

    /// Drives a `child` through these ends of its terminal.
    pub(crate) fn new(child: Child, input: OwnedFd, output: OwnedFd) -> Self {
        let (sender, receiver) = channel();
        let mut output = std::fs::File::from(output);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        let input: Box<dyn Write> = Box::new(std::fs::File::from(input));
        let (unread, transcript) = (String::new(), String::new());
        Self { child, input: Some(input), output: receiver, unread, transcript }
    }

    /// Waits for the first prompt after a boot.
    pub(crate) fn shell_is_up(&mut self) {
        self.expect("cubie: init reached");
        self.expect("/root # ");
    }

    /// Types.
    pub(crate) fn send(&mut self, text: &str) {
        let input = self.input.as_mut().expect("the input is open");
        input.write_all(text.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    /// Waits until the guest has said `text`, and returns what came before it.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        match self.expect_within(DEADLINE, text) {
            Some(before) => before,
            None => self.fail(&format!("«{text}» does not come")),
        }
    }

    /// As [`Vm::expect`], if it comes in `time`.
    pub(crate) fn expect_within(&mut self, time: Duration, text: &str) -> Option<String> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(at) = self.unread.find(text) {
                let rest = self.unread.split_off(at + text.len());
                let mut before = std::mem::replace(&mut self.unread, rest);
                before.truncate(at);
                return Some(before);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => {
                    let text = String::from_utf8_lossy(&bytes);
                    self.unread.push_str(&text);
                    self.transcript.push_str(&text);
                }
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => {
                    self.fail(&format!("the output ended before «{text}»"));
                }
            }
        }
    }

    /// Asks again and again, while shells come and go, until the output of `command` has `wanted`.
    pub(crate) fn ask_until(&mut self, command: &str, wanted: &str) {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            self.send(&format!("{command}; echo \"[$((6*7))]\"\n"));
            let answer = self.expect_within(Duration::from_secs(5), "[42]");
            if answer.is_some_and(|answer| answer.contains(wanted)) {
                return;
            }
        }
        self.fail(&format!("«{command}» never says «{wanted}»"));
    }

    /// Runs a command in the guest's shell; its output, if it succeeds.
    pub(crate) fn run(&mut self, command: &str) -> String {
        // The echo of what is typed shows the sums, the command's output their results.
        self.send(&format!("echo \"<$((6*7))\"; {command}; echo \"[$?:$((6*7))]\"\n"));
        self.expect("<42");
        let output = self.expect(":42]");
        // What is typed before the prompt would be echoed twice.
        self.expect("# ");
        let Some((output, "0")) = output.rsplit_once('[') else {
            self.fail(&format!("«{command}» failed"));
        };
        output.replace('\r', "").trim().to_owned()
    }

    /// The example's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the example's end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Powers the guest off and expects the good end.
    pub(crate) fn power_off(mut self) {
        self.send("poweroff\n");
        let status = self.wait();
        assert!(status.success(), "{status}");
    }

    fn fail(&self, what: &str) -> ! {
        let standstill = standstill::of(self.pid());
        panic!("{what}; the console so far:\n{}\nthe machine:\n{standstill}", self.transcript);
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a child's end.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    until("the example ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.expect("it has ended")
}

/// Waits for what nothing but looking tells.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come to that {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Runs a command on the host of the guest; its output, if it succeeds.
pub(crate) fn host(command: &str) -> String {
    let output = Command::new("sh").arg("-c").arg(command).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A file of `len` zero bytes in `folder`.
pub(crate) fn blank(folder: &tempfile::TempDir, name: &str, len: u64) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::File::create(&path).unwrap().set_len(len).unwrap();
    path
}

/// `path` as an argument.
pub(crate) fn arg(path: impl Into<OsString>) -> String {
    path.into().into_string().unwrap()
}
