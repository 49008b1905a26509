//! A running lab: joined if there is one, started if not.

mod agent;
mod index;
mod initramfs;
pub mod keeper;
mod runtime;

use crate::images::{Cache, LabImage};
use crate::machine::Machine;
use crate::wire::{Link, MAGIC};
use anyhow::{Context, Result, bail};
use runtime::{Lock, Runtime, State};
use rustix::process::{Pid, Signal, kill_process};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a connection may take: QEMU itself takes it, even when the machine in it hangs.
const CONNECT: Duration = Duration::from_secs(10);

/// A lab that this process uses. As long as the value lives, the lab does not end for want of users.
#[derive(Debug)]
pub struct Lab {
    runtime: Runtime,
    state: State,
    _users: Lock,
}

/// A lab in the list of [`Lab::all`].
#[derive(Clone, Debug)]
pub struct Running {
    /// Kind of machine and fingerprint.
    pub name: String,
    /// Process id of QEMU.
    pub qemu: i32,
    /// Whether somebody uses it now; else it ends soon.
    pub in_use: bool,
    /// The lab kernel's messages.
    pub console: PathBuf,
}

/// All that a machine is made of, and where it keeps its state.
struct Parts {
    image: LabImage,
    agent: PathBuf,
    runtime: Runtime,
}

impl Parts {
    /// Finds or makes image and agent. Labs of different machines, kernels or agents are different labs.
    fn prepare(machine: &Machine) -> Result<Parts> {
        let cache = Cache::open()?;
        let image = cache.lab()?;
        index::write(&image)?;
        let (agent, version) = agent::executable(cache.dir())?;
        let mut hasher = DefaultHasher::new();
        (machine, version, &image.version, &image.kernel).hash(&mut hasher);
        let name = format!("{}-{:08x}", machine.name(), hasher.finish() as u32);
        Ok(Parts { image, agent, runtime: Runtime::open(&name)? })
    }
}

impl Lab {
    /// Joins the lab of this machine, after starting it if it does not run.
    ///
    /// # Errors
    /// When the image cannot be made, QEMU is missing, or the lab does not come up in time.
    pub fn open(machine: &Machine) -> Result<Lab> {
        let runtime = Parts::prepare(machine)?.runtime;
        let _start = runtime.lock_start()?;
        let state = match runtime.state()? {
            Some(state) => state,
            None => start(machine, &runtime)?,
        };
        let users = runtime.lock_users()?;
        Ok(Lab { runtime, state, _users: users })
    }

    /// This user's running labs.
    ///
    /// # Errors
    /// When the runtime folder cannot be read.
    pub fn all() -> Result<Vec<Running>> {
        let mut running = Vec::new();
        for runtime in runtime::all()? {
            if let Some(state) = runtime.state()? {
                running.push(Running {
                    name: runtime.name(),
                    qemu: state.qemu,
                    in_use: runtime.idle()?.is_none(),
                    console: runtime.console(),
                });
            }
        }
        Ok(running)
    }

    /// Ends all running labs of this user, also those in use, and returns their names.
    ///
    /// # Errors
    /// When the runtime folder cannot be read.
    pub fn stop_all() -> Result<Vec<String>> {
        let mut stopped = Vec::new();
        for runtime in runtime::all()? {
            let _start = runtime.lock_start()?;
            if let Some(state) = runtime.state()? {
                end(&runtime, &state)?;
                stopped.push(runtime.name());
            }
        }
        Ok(stopped)
    }

    /// Ends this lab, also when others use it or it does not answer.
    ///
    /// # Errors
    /// When its keeper cannot be told so.
    pub fn stop(&self) -> Result<()> {
        let _start = self.runtime.lock_start()?;
        // Another user of a lab that hangs may have been faster, and a new one may run.
        match self.runtime.state()? {
            Some(state) if state == self.state => end(&self.runtime, &state),
            _ => Ok(()),
        }
    }

    /// Process id of QEMU.
    #[must_use]
    pub fn qemu(&self) -> i32 {
        self.state.qemu
    }

    /// The log of the lab kernel's console.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.runtime.console()
    }

    /// A connection to the agent, greeting sent.
    pub(crate) fn connect(&self) -> Result<Link> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.state.port));
        let connection = TcpStream::connect_timeout(&address, CONNECT).and_then(|mut stream| {
            stream.write_all(&[MAGIC.as_slice(), &self.state.token].concat())?;
            Link::new(stream)
        });
        connection
            .with_context(|| format!("connecting to the lab; see {}", self.console().display()))
    }
}

fn end(runtime: &Runtime, state: &State) -> Result<()> {
    let keeper = Pid::from_raw(state.keeper).context("the lab's state file is damaged")?;
    match kill_process(keeper, Signal::TERM) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => runtime.wait_for_keeper(),
        Err(error) => Err(error).context("ending the lab"),
    }
}

/// Starts a keeper, which outlives this process, and waits until it says that the lab is up.
fn start(machine: &Machine, runtime: &Runtime) -> Result<State> {
    keeper::check()?;
    eprintln!("armlab: starting an ARM64 machine with KVM in QEMU ({})", machine.name());
    let log = std::fs::File::create(runtime.folder().join("keeper.log"))?;
    let mut keeper = armlab();
    keeper.args(keeper::arguments(machine));
    keeper.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut keeper = keeper.spawn().context("starting the lab's keeper")?;
    let mut answer = String::new();
    if let Some(mut stdout) = keeper.stdout.take() {
        stdout.read_to_string(&mut answer)?; // the keeper has deadlines of its own
    }
    if answer != keeper::READY {
        keeper.wait()?;
        let log = std::fs::read_to_string(runtime.folder().join("keeper.log"))?;
        let (why, logs) = (answer.trim_end(), runtime.folder().display());
        bail!("the lab did not start: {why}\n{log}There may be more in {logs}");
    }
    runtime.state()?.context("the lab ended as soon as it was up")
}

/// This crate's program, also when a test or an example calls.
fn armlab() -> Command {
    let own = std::env::current_exe().is_ok_and(|path| path.file_name() == Some("armlab".as_ref()));
    if own {
        let mut command = Command::new("/proc/self/exe"); // right even when it has been rebuilt meanwhile
        command.arg0("armlab");
        return command;
    }
    let mut command = crate::cargo::command();
    command.args(["run", "--quiet", "--bin", "armlab", "--"]);
    command
}
