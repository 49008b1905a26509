//! All processes of one run, as a control group: what a command leaves behind ends with it.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long killed processes may take to go: a machine under KVM has memory to give back.
const PATIENCE: Duration = Duration::from_secs(10);

/// A control group that kills its members and goes away when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    folder: PathBuf,
}

impl Group {
    pub(crate) fn new(run: u64) -> io::Result<Group> {
        let folder = PathBuf::from(format!("/sys/fs/cgroup/run-{run}"));
        fs::create_dir(&folder)?;
        Ok(Group { folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills all members and waits until they are gone.
    pub(crate) fn kill(&self) -> io::Result<()> {
        let mut events = File::open(self.folder.join("cgroup.events"))?;
        fs::write(self.folder.join("cgroup.kill"), "1")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut text = String::new();
            events.rewind()?;
            events.read_to_string(&mut text)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if text.contains("populated 0") || left.is_zero() {
                return Ok(());
            }
            let left = Timespec { tv_sec: left.as_secs() as i64 + 1, tv_nsec: 0 };
            poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left))?;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = self.kill().and_then(|()| fs::remove_dir(&self.folder)) {
            eprintln!("armlab-agent: {}: {error}", self.folder.display());
        }
    }
}

/// Puts this process into the group, into a session of its own, and makes `terminal`, a descriptor's number,
/// the session's terminal.
pub(crate) fn join(folder: &OsStr, terminal: Option<&str>) -> io::Result<()> {
    fs::write(Path::new(folder).join("cgroup.procs"), "0")?; // 0 is the writer itself
    rustix::process::setsid()?;
    match terminal {
        Some("0") => rustix::process::ioctl_tiocsctty(io::stdin())?,
        Some("1") => rustix::process::ioctl_tiocsctty(io::stdout())?,
        Some("2") => rustix::process::ioctl_tiocsctty(io::stderr())?,
        _ => {}
    }
    Ok(())
}
