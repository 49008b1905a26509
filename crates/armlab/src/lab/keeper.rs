//! The process that owns a lab: QEMU's parent, from the start to the end.
//!
//! It runs detached from whoever needed the lab first, ends the lab when it is told to (SIGTERM), when nobody
//! has used it for a while, or when it does not come up in time; and when the keeper itself is killed, the
//! kernel kills QEMU.

use super::runtime::{Lock, State};
use super::{Parts, initramfs};
use crate::machine::{Gic, Machine, variable};
use crate::wire::{self, Token};
use anyhow::{Context, Result, bail};
use rustix::process::{Signal, getppid, set_parent_process_death_signal, setsid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// What the keeper prints, alone, when the lab is up; anything else is the reason why not.
pub(super) const READY: &str = "ready\n";

/// How long the lab may take to come up. It needs about four seconds on a machine that does nothing else.
const BOOT: Duration = Duration::from_secs(60);

/// How often the keeper looks whether the lab is in use.
const PACE: Duration = Duration::from_secs(1);

/// Bytes of the console's log: a guest or a test that floods the kernel's log shall not fill the disk.
const LOG_LIMIT: usize = 8 << 20;

enum Event {
    Up,
    Gone,
    Told,
}

/// The arguments of `armlab` that lead to [`main`].
pub(super) fn arguments(machine: &Machine) -> Vec<OsString> {
    let Machine { gic, cpu, cpus, memory, icount } = machine;
    let words = [
        "keep".into(),
        gic.number().to_string(),
        cpu.clone(),
        cpus.to_string(),
        memory.to_string(),
        u8::from(*icount).to_string(),
    ];
    words.into_iter().map(OsString::from).collect()
}

fn machine(words: &[String]) -> Result<Machine> {
    let [gic, cpu, cpus, memory, icount] = words else {
        bail!("armlab keep is called by armlab only")
    };
    Ok(Machine {
        gic: gic.parse::<Gic>()?,
        cpu: cpu.clone(),
        cpus: cpus.parse()?,
        memory: memory.parse()?,
        icount: icount == "1",
    })
}

/// The keeper's life.
///
/// # Errors
/// When the lab does not come up. The reason is on standard output too, for the process that waits for it.
pub fn main(words: &[String]) -> Result<()> {
    setsid()?;
    std::env::set_current_dir("/")?; // it may be in use long after its starter's folder is gone
    let kept = machine(words).and_then(|machine| keep(&machine));
    if let Err(error) = &kept {
        let _ = write!(std::io::stdout(), "{error:#}"); // nobody may be waiting any more
    }
    kept
}

fn keep(machine: &Machine) -> Result<()> {
    let parts = Parts::prepare(machine)?;
    let runtime = &parts.runtime;
    let _alive = runtime.try_lock_keeper()?.context("this lab has a keeper already")?;
    let (sender, events) = mpsc::channel();
    watch_signals(sender.clone())?;
    let mut token = Token::default();
    File::open("/dev/urandom")?.read_exact(&mut token)?;
    let initrd = runtime.folder().join("initramfs");
    initramfs::write(&initrd, &parts.image, &parts.agent, &token)?;
    let port = free_port()?;
    let mut qemu = Qemu::start(&machine.qemu_arguments(&parts.image.kernel, &initrd, port))?;
    let log = File::create(runtime.console())?;
    let console = qemu.console()?;
    thread::spawn(move || copy_console(console, log, &sender));
    wait_until_up(&events)?;
    let (keeper, qemu_pid) = (std::process::id() as i32, qemu.0.id() as i32);
    runtime.write_state(&State { keeper, qemu: qemu_pid, port, token })?;
    announce()?;
    let _start = wait_for_the_end(&parts, &events)?;
    runtime.remove_state();
    drop(qemu);
    Ok(())
}

/// Tells the process that waits, and lets go of the pipe to it.
fn announce() -> Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(READY.as_bytes())?;
    stdout.flush()?;
    let null = File::options().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(&null)?)
}

fn watch_signals(sender: Sender<Event>) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::spawn(move || signals.forever().try_for_each(|_| sender.send(Event::Told)));
    Ok(())
}

/// A port that nobody listens on. Somebody else may take it before QEMU does; then QEMU says so and ends.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn wait_until_up(events: &Receiver<Event>) -> Result<()> {
    match events.recv_timeout(BOOT) {
        Ok(Event::Up) => Ok(()),
        Ok(Event::Told) => bail!("it was told to end"),
        Ok(Event::Gone) | Err(RecvTimeoutError::Disconnected) => {
            bail!("QEMU ended before the lab was up")
        }
        Err(RecvTimeoutError::Timeout) => {
            bail!("it was not up after {} s, and was ended", BOOT.as_secs())
        }
    }
}

/// Returns when the lab has to end, if possible with the lock that keeps others from joining it.
fn wait_for_the_end(parts: &Parts, events: &Receiver<Event>) -> Result<Option<Lock>> {
    let limit = Duration::from_secs(variable("ARMLAB_IDLE")?.unwrap_or(60));
    let mut used = Instant::now();
    loop {
        match events.recv_timeout(PACE) {
            Ok(Event::Up) => {}
            Err(RecvTimeoutError::Timeout) => {
                let Some(idle) = parts.runtime.idle()? else {
                    used = Instant::now();
                    continue;
                };
                if idle.min(used.elapsed()) < limit {
                    continue;
                }
                // Who holds this is about to join. Who comes later finds the lab gone, and starts another.
                let Some(lock) = parts.runtime.try_lock_start()? else {
                    continue;
                };
                if parts.runtime.idle()?.is_some_and(|idle| idle >= limit) {
                    eprintln!("armlab: idle for {} s: the lab ends", limit.as_secs());
                    return Ok(Some(lock));
                }
            }
            Ok(Event::Told) => {
                eprintln!("armlab: the lab was told to end");
                return Ok(None);
            }
            Ok(Event::Gone) | Err(RecvTimeoutError::Disconnected) => {
                eprintln!("armlab: QEMU ended by itself");
                return Ok(None);
            }
        }
    }
}

/// Copies the serial console to its log and looks for the agent's line.
fn copy_console(console: ChildStdout, mut log: File, sender: &Sender<Event>) {
    let mut console = BufReader::new(console);
    let mut line = Vec::new();
    let mut room = LOG_LIMIT;
    while console.by_ref().take(4096).read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        if line.trim_ascii() == wire::READY.as_bytes() {
            let _ = sender.send(Event::Up); // if nobody listens any more, the keeper is ending
        }
        if line.len() <= room && log.write_all(&line).is_ok() {
            room -= line.len();
        }
        line.clear();
    }
    let _ = sender.send(Event::Gone);
}

/// QEMU, killed when dropped.
struct Qemu(Child);

impl Qemu {
    fn start(arguments: &[OsString]) -> Result<Qemu> {
        // The program in between asks the kernel to kill QEMU when this process dies, then becomes QEMU.
        let child = Command::new("/proc/self/exe")
            .arg("machine")
            .arg(std::process::id().to_string())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting QEMU")?;
        Ok(Qemu(child))
    }

    fn console(&mut self) -> Result<ChildStdout> {
        self.0.stdout.take().context("QEMU's output was taken already")
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let killed = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = killed {
            eprintln!("armlab: QEMU could not be ended: {error}");
        }
    }
}

/// Turns this process into QEMU, which dies with process `parent`.
///
/// # Errors
/// When QEMU cannot be started; else it does not return.
pub fn become_qemu(parent: i32, arguments: &[OsString]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().is_none_or(|pid| pid.as_raw_nonzero().get() != parent) {
        bail!("the keeper is gone already");
    }
    Err(Command::new(QEMU).args(arguments).exec()).with_context(|| format!("starting {QEMU}"))
}

/// The program; [`check`] says where it comes from.
const QEMU: &str = "qemu-system-aarch64";

/// Says early and clearly when QEMU is missing.
pub(super) fn check() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(QEMU).is_file()) {
        return Ok(());
    }
    bail!(
        "{QEMU} is missing: install Debian's package qemu-system-arm, as root: `apt-get install qemu-system-arm`"
    )
}
