//! System calls of a process with all its threads, counted by the kernel (tracefs). That makes each of them
//! some hundred instructions longer, for all VMMs.

use std::fs;
use std::path::Path;

use anyhow::Context;

const TRACING: &str = "/sys/kernel/tracing";
const ENABLE: &str = "events/raw_syscalls/sys_enter/enable";

/// Counts as long as it lives.
pub(crate) struct Syscalls(());

impl Syscalls {
    /// Those of the threads that the process has now.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        if !Path::new(TRACING).join("events").exists() {
            let done = std::process::Command::new("mount")
                .args(["-t", "tracefs", "tracefs", TRACING])
                .status()?;
            anyhow::ensure!(done.success(), "there is no tracefs: {done}");
        }
        let mut threads = String::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            threads += &format!("{}\n", thread?.file_name().to_string_lossy());
        }
        write("set_event_pid", &threads)?;
        // Clears what was there.
        write("trace", "")?;
        let counting = Self(());
        write(ENABLE, "1")?;
        Ok(counting)
    }

    /// How many so far.
    pub(crate) fn count(&self) -> anyhow::Result<f64> {
        let mut count = 0;
        for cpu in fs::read_dir(Path::new(TRACING).join("per_cpu"))? {
            let stats = fs::read_to_string(cpu?.path().join("stats"))?;
            // In the buffer, and those that others have taken the place of.
            for name in ["entries: ", "overrun: ", "dropped events: "] {
                let line = stats.lines().find_map(|line| line.strip_prefix(name));
                count += line.context("a counter of tracefs")?.trim().parse::<u64>()?;
            }
        }
        Ok(count as f64)
    }
}

impl Drop for Syscalls {
    fn drop(&mut self) {
        // What fails here, the next count says.
        let _ = write(ENABLE, "0");
        let _ = write("set_event_pid", "");
    }
}

fn write(file: &str, text: &str) -> anyhow::Result<()> {
    let path = Path::new(TRACING).join(file);
    fs::write(&path, text).with_context(|| path.display().to_string())
}
