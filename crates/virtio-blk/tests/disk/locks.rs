//! Images that somebody else uses: QEMU's storage daemon, which locks them in the same way.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use cubie_virtio_blk::{Image, ImageOptions, OpenError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::DEADLINE;

fn open(path: &Path, read_only: bool) -> Result<Image, OpenError> {
    Image::open(path, ImageOptions { read_only, ..ImageOptions::default() })
}

/// The same, once a daemon that was refused has gone: it may outlive the process that says so.
fn open_soon(path: &Path, read_only: bool) -> Image {
    let end = Instant::now() + DEADLINE;
    loop {
        match open(path, read_only) {
            Err(OpenError::InUse { .. }) if Instant::now() < end => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// A daemon that serves the disk to whoever comes. Dropping it ends it.
struct Qemu(Pid);

impl Qemu {
    /// What it says when it cannot have the disk.
    fn start(path: &Path, writable: bool) -> Result<Self, String> {
        let dir = path.parent().unwrap();
        let (socket, pid) = (dir.join("socket"), dir.join("pid"));
        let _ = std::fs::remove_file(&socket);
        let on = if writable { "on" } else { "off" };
        let read_only = if writable { "off" } else { "on" };
        let file =
            format!("driver=file,node-name=disk,filename={},read-only={read_only}", path.display());
        let export = format!(
            "type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={},writable={on}",
            socket.display()
        );
        let daemon = Command::new("qemu-storage-daemon")
            .args(["--daemonize", "--blockdev", &file, "--export", &export, "--pidfile"])
            .arg(&pid)
            .output()
            .unwrap();
        if !daemon.status.success() {
            return Err(String::from_utf8_lossy(&daemon.stderr).into_owned());
        }
        let pid = std::fs::read_to_string(pid).unwrap();
        Ok(Self(Pid::from_raw(pid.trim().parse().unwrap())))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        // It is nobody's child any more: there is none to wait for, but for its lock.
        while kill(self.0, None).is_ok() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn qemu_and_we_keep_each_other_off_an_image_that_one_of_us_writes() {
    if Command::new("qemu-storage-daemon").arg("--version").output().is_err() {
        eprintln!("skipped: no qemu-storage-daemon");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    std::fs::write(&path, vec![0; 1 << 20]).unwrap();
    let in_use = |read_only| {
        let refused = open(&path, read_only).unwrap_err();
        assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    };
    let writer = Qemu::start(&path, true).unwrap();
    in_use(false);
    in_use(true);
    drop(writer);

    let ours = open_soon(&path, false);
    let refused = Qemu::start(&path, true).err().expect("a lock");
    assert!(refused.contains("lock"), "{refused}");
    drop(ours);

    let reader = open_soon(&path, true);
    let theirs = Qemu::start(&path, false).unwrap();
    drop(open_soon(&path, true));
    in_use(false);
    drop((reader, theirs));
    open_soon(&path, false);
}
