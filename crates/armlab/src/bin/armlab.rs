//! The command line of the lab; `armlab --help` says what it can do.

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use cubie_armlab::{Expired, Gic, Lab, Machine, RunOptions, end_like, keeper};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, ExitStatus};

/// An ARM64 Linux machine with KVM, emulated by QEMU, in which programs of this machine run as if it were
/// this machine: same files at the same paths, same working folder, environment, terminal and exit status.
///
/// The machine is started when it is first needed, serves any number of programs at the same time, and ends
/// when nobody has used it for a minute. Folders of programs (/bin, /sbin, /lib, /usr/bin, /usr/sbin), /etc,
/// /run, /dev, /proc and /sys are its own; the tools in it are busybox's. TMPDIR is in its memory.
#[derive(Parser)]
#[command(name = "armlab", version, after_long_help = ENVIRONMENT)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const ENVIRONMENT: &str = "\
Environment:
  ARMLAB_GIC=2|3      version of the interrupt controller [2]
  ARMLAB_CPU=MODEL    QEMU's CPU model [cortex-a57]
  ARMLAB_CPUS=N       number of CPUs [2]
  ARMLAB_MEM=MIB      memory [3072]
  ARMLAB_ICOUNT=1     count instructions instead of time, with one CPU
  ARMLAB_TIMEOUT=S    kill a run after so many seconds [900; none when standard input is a terminal]
  ARMLAB_HEARTBEAT=S  end a lab that has not answered for so long [30]
  ARMLAB_IDLE=S       end a lab that nobody has used for so long [60]

Exit status: the program's own; 124 when a time was up; 125 when the lab failed.
Labs keep their state and their logs in $XDG_RUNTIME_DIR/armlab, else in /tmp/armlab-UID.";

#[derive(Subcommand)]
enum Verb {
    /// Run a program in the lab (on an ARM64 machine: just run it)
    Run {
        #[command(flatten)]
        hardware: Hardware,
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    /// A shell in the lab
    Shell {
        #[command(flatten)]
        hardware: Hardware,
    },
    /// List the running labs
    Status,
    /// End all running labs, also those in use
    Stop,
    #[command(hide = true)]
    Keep { words: Vec<String> },
    #[command(hide = true)]
    Machine {
        parent: i32,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Args)]
struct Hardware {
    /// Version of the lab's interrupt controller, 2 or 3: guests get the same
    #[arg(long)]
    gic: Option<Gic>,
    /// Count instructions instead of time: slow, but the same from run to run
    #[arg(long)]
    icount: bool,
}

impl Hardware {
    fn machine(&self) -> Result<Machine> {
        let usual = Machine::from_env()?;
        Ok(Machine {
            gic: self.gic.unwrap_or(usual.gic),
            icount: self.icount || usual.icount,
            ..usual
        })
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run { hardware, command } => run(&hardware, command).map(end_like),
        Verb::Shell { hardware } => shell(&hardware).map(end_like),
        Verb::Status => status(),
        Verb::Stop => stop(),
        Verb::Keep { words } => keeper::main(&words).map(|()| ExitCode::SUCCESS),
        Verb::Machine { parent, arguments } => {
            keeper::become_qemu(parent, &arguments).map(|()| ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("armlab: {error:#}");
        ExitCode::from(if error.is::<Expired>() { 124 } else { 125 })
    })
}

fn run(hardware: &Hardware, command: Vec<OsString>) -> Result<ExitStatus> {
    if cfg!(target_arch = "aarch64") {
        let (program, arguments) = command.split_first().expect("clap requires one");
        return Err(Command::new(program).args(arguments).exec().into());
    }
    Lab::open(&hardware.machine()?)?.run(&RunOptions::new(command)?)
}

fn shell(hardware: &Hardware) -> Result<ExitStatus> {
    Lab::open(&hardware.machine()?)?.run(&RunOptions::new(["/bin/sh", "-l"])?)
}

fn status() -> Result<ExitCode> {
    for lab in Lab::all()? {
        let in_use = if lab.in_use { "in use" } else { "idle" };
        println!(
            "{}: {in_use}, QEMU is process {}, console in {}",
            lab.name,
            lab.qemu,
            lab.console.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn stop() -> Result<ExitCode> {
    for name in Lab::stop_all()? {
        println!("{name}: ended");
    }
    Ok(ExitCode::SUCCESS)
}
