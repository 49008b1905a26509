//! Running a command in a lab.

mod client;
mod clock;
mod environment;
mod output;
mod signals;
mod terminal;

use crate::lab::Lab;
use crate::machine::variable;
use crate::wire::{Command, Terminals};
use anyhow::{Context, Result};
use client::{Client, Streams};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::termios::isatty;
use signals::Signals;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Output};
use std::thread;
use std::time::Duration;
use terminal::RawTerminal;

pub use clock::Expired;

/// How long a run without a terminal may take when `ARMLAB_TIMEOUT` says nothing.
const TIMEOUT: Duration = Duration::from_secs(900);

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Program and arguments. A program without a slash is one of the lab's busybox.
    pub argv: Vec<OsString>,
    /// Its environment; the lab sets `PATH`, `SHELL` and `TMPDIR` itself.
    pub env: Vec<(OsString, OsString)>,
    /// Its working folder, outside and inside.
    pub cwd: PathBuf,
    /// After this time it is killed.
    pub timeout: Option<Duration>,
}

impl RunOptions {
    /// A command with this process's working folder and environment, as far as that has a meaning in the lab.
    /// The timeout is `ARMLAB_TIMEOUT` in seconds; else none when standard input is a terminal, and 900 s.
    ///
    /// # Errors
    /// When there is no working folder, or `ARMLAB_TIMEOUT` is not a number.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Result<RunOptions> {
        let usual = if isatty(io::stdin()) { None } else { Some(TIMEOUT) };
        let cwd = std::env::current_dir().context("the working folder")?;
        Ok(RunOptions {
            argv: argv.into_iter().map(Into::into).collect(),
            env: environment::inherited(&cwd),
            cwd,
            timeout: variable("ARMLAB_TIMEOUT")?.map(Duration::from_secs).or(usual),
        })
    }
}

impl Lab {
    /// Runs a command on this process's own standard streams. What is a terminal outside is one inside; when
    /// standard input is one, it is in raw mode meanwhile.
    ///
    /// Signals that this process gets (SIGINT, SIGQUIT, SIGHUP, SIGTERM) go to the command; afterwards they
    /// have their usual effect again.
    ///
    /// # Errors
    /// When the command cannot be started, the lab ends or hangs, or the time is up ([`Expired`]).
    pub fn run(&self, options: &RunOptions) -> Result<ExitStatus> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let terminals =
            Terminals { stdin: isatty(&stdin), stdout: isatty(&stdout), stderr: isatty(&stderr) };
        // In this order: a signal that came between the two would leave the terminal raw.
        let mut signals = Signals::take()?;
        let _raw = match terminals.stdin {
            true => Some(RawTerminal::enter(terminals.stdout && terminals.stderr)?),
            false => None,
        };
        let streams =
            Streams { stdin: stdin.as_fd(), stdout: stdout.as_fd(), stderr: stderr.as_fd() };
        self.serve(options, terminals, streams, Some(&mut signals))
    }

    /// Runs a command with `input` as its standard input and collects what it writes.
    ///
    /// # Errors
    /// As [`Lab::run`].
    pub fn output(&self, options: &RunOptions, input: &[u8]) -> Result<Output> {
        let (stdin, mut feed) = io::pipe()?;
        let (mut out, stdout) = io::pipe()?;
        let (mut err, stderr) = io::pipe()?;
        thread::scope(|scope| {
            let feed = scope.spawn(move || feed.write_all(input));
            let out = scope.spawn(move || read_all(&mut out));
            let err = scope.spawn(move || read_all(&mut err));
            let streams =
                Streams { stdin: stdin.as_fd(), stdout: stdout.as_fd(), stderr: stderr.as_fd() };
            let status = self.serve(options, Terminals::default(), streams, None);
            drop((stdin, stdout, stderr));
            let _ = feed.join(); // a command may end without having read all
            let joined = |thread: thread::ScopedJoinHandle<'_, io::Result<Vec<u8>>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            Ok(Output { stdout: joined(out)?, stderr: joined(err)?, status: status? })
        })
    }

    fn serve<'a>(
        &'a self,
        options: &RunOptions,
        terminals: Terminals,
        streams: Streams<'a>,
        signals: Option<&'a mut Signals>,
    ) -> Result<ExitStatus> {
        let command = Command {
            argv: options.argv.clone(),
            env: options.env.clone(),
            cwd: options.cwd.clone().into(),
            terminals,
            size: terminal::size(),
        };
        Client::start(self, command, streams, signals, options.timeout)?.serve()
    }
}

/// The exit code to return from `main` so that this process ends as the command did. When that was by a
/// signal, it sends itself the same one, and cargo and shells say the same about both.
#[must_use]
pub fn end_like(status: ExitStatus) -> ExitCode {
    if let Some(signal) = status.signal() {
        let no_core = Rlimit { current: Some(0), maximum: Some(0) };
        let _ = setrlimit(Resource::Core, no_core);
        let _ = signal_hook::low_level::emulate_default_handler(signal);
        return ExitCode::from(128 + signal as u8); // one that does not end a process by default
    }
    ExitCode::from(status.code().unwrap_or_default() as u8)
}

fn read_all(pipe: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes)?;
    Ok(bytes)
}
