//! Who serves an image.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use cubie::blk::{Blk, FileDisk, ImageOptions};
use cubie::vhost_user::{Listener, Server};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::cpus::Cpus;
use crate::image::Image;

/// Tells the benchmark that it is the daemon: a socket, an image, and `direct` if it is served so.
pub(crate) const ARGUMENT: &str = "--serve";
pub(crate) const PEER: &str = "qemu-storage-daemon";
const DIRECT: &str = "direct";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Ours,
    Peer,
}

/// A process, as long as this value lives.
pub(crate) struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Daemon {
    /// One that serves `image`. It listens at [`Daemon::socket`] soon.
    pub(crate) fn start(who: Who, image: &Image, cpus: &Cpus) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = socket(&folder);
        let mut command = match who {
            Who::Ours => ours(&socket, image)?,
            Who::Peer => peer(&socket, image),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = cpus.among_daemons(|| command.spawn())?;
        let child = child.with_context(|| format!("{}", command.get_program().display()))?;
        Ok(Self { child, folder })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(&self.folder)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all its threads so far, also of those that have ended.
    pub(crate) fn cpu_time(&self) -> nix::Result<Duration> {
        let clock = clock_getcpuclockid(Pid::from_raw(self.child.id() as i32))?;
        Ok(clock.now()?.into())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nobody wants its image any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(folder: &TempDir) -> PathBuf {
    folder.path().join("socket")
}

fn ours(socket: &Path, image: &Image) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ARGUMENT).args([socket, image.path()]);
    command.args(image.is_direct().then_some(DIRECT));
    Ok(command)
}

fn peer(socket: &Path, image: &Image) -> Command {
    let (socket, path) = (socket.display(), image.path().display());
    let direct = if image.is_direct() { "on" } else { "off" };
    let mut command = Command::new(PEER);
    // The other daemon has it too.
    let disk = format!(
        "driver=file,node-name=disk,filename={path},aio=io_uring,cache.direct={direct},locking=off"
    );
    let export = format!(
        "type=vhost-user-blk,id=export,node-name=disk,writable=on,addr.type=unix,addr.path={socket}"
    );
    command.arg("--blockdev").arg(disk).arg("--export").arg(export);
    command
}

pub(crate) fn is_peer_here() -> bool {
    let asked = Command::new(PEER).arg("--version").stdout(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// Our daemon, until it is killed.
pub(crate) fn serve(arguments: &[String]) -> anyhow::Result<()> {
    let [socket, image, direct @ ..] = arguments else { anyhow::bail!("{ARGUMENT} SOCKET IMAGE") };
    let direct = direct.iter().any(|argument| argument == DIRECT);
    let image = cubie::blk::Image::open(image, ImageOptions { direct, read_only: false })?;
    let disk = Blk::new(FileDisk::new(image), "bench".parse()?);
    let (stop, _never) = UnixStream::pair()?;
    Ok(Server::new(Box::new(disk)).run(&Listener::bind(Path::new(socket))?, stop)?)
}
