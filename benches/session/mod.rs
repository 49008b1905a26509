//! A guest behind its console.

use std::io::{BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::guests::{Counters, INIT};

/// What says nothing for so long hangs.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

pub(crate) struct Guest {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Guest {
    /// Starts one, and says what KVM has counted until its init, and until its prompt.
    pub(crate) fn boot(command: &mut Command) -> anyhow::Result<(Self, [Counters; 2])> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("a pipe")?;
        let output = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut guest = Self { child, input, output };
        guest.expect(INIT)?;
        let init = guest.counters()?;
        guest.expect("/root # ")?;
        let prompt = guest.counters()?;
        Ok((guest, [init, prompt]))
    }

    /// Of the VMM.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn counters(&self) -> anyhow::Result<Counters> {
        Counters::read(self.pid())
    }

    /// Runs a command in the guest's shell; its output, if it succeeds.
    pub(crate) fn run(&mut self, command: &str) -> anyhow::Result<String> {
        // The echo of what is typed shows the sums, the command's output their results.
        writeln!(self.input, "echo \"<$((6*7))\"; {command}; echo \"[$?:$((6*7))]\"")?;
        self.expect("<42")?;
        let output = self.expect(":42]")?;
        self.expect("# ")?;
        let (output, status) = output.rsplit_once('[').context("no status")?;
        ensure!(status == "0", "«{command}» failed in the guest: {output}");
        Ok(output.to_owned())
    }

    /// What the guest says before `text`.
    fn expect(&mut self, text: &str) -> anyhow::Result<String> {
        let mut said = vec![];
        while !said.ends_with(text.as_bytes()) {
            if self.output.buffer().is_empty() {
                let mut output = [PollFd::new(self.output.get_ref(), PollFlags::IN)];
                let ready = poll(&mut output, Some(&PATIENCE))?;
                let so_far = String::from_utf8_lossy(&said);
                ensure!(ready > 0, "the guest does not say «{text}», but: {so_far}");
            }
            let mut byte = [0];
            let read = self.output.read(&mut byte)?;
            ensure!(read == 1, "the guest ended: {}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
        }
        said.truncate(said.len() - text.len());
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
