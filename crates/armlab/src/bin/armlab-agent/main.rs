//! The program inside the lab: first process, server of runs, and the last step before each command.
//!
//! 1. `/init`, as process 1, makes the machine usable, starts the server and reaps every orphan. When the
//!    server ends, so does the machine.
//! 2. `armlab-agent serve` listens for runners (`cubie_armlab::wire`) and serves each in a thread of its own.
//! 3. `armlab-agent enter CGROUP no|0|1|2 PROGRAM ARGUMENTS…` is what the server starts for a run: it joins the
//!    run's control group, becomes leader of a session whose terminal is that descriptor, and turns into the
//!    program. Between fork and exec a program with threads may do next to nothing; a fresh process may do all.

mod boot;
mod connection;
mod group;
mod outer;
mod pipes;
mod session;

use cubie_armlab::wire;
use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io, thread};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let result = match arguments.next().as_ref().and_then(|verb| verb.to_str()) {
        Some("serve") => serve(),
        Some("enter") => return enter(arguments.collect()),
        None if std::process::id() == 1 => init(),
        _ => Err(io::Error::other("this is the lab's first program, and of no use elsewhere")),
    };
    if let Err(error) = result {
        eprintln!("armlab-agent: {error}");
    }
    ExitCode::FAILURE
}

/// Process 1. It never returns while the server lives, and its end is a kernel panic, which ends the lab.
fn init() -> io::Result<()> {
    boot::boot()?;
    let server = Command::new("/proc/self/exe").arg("serve").spawn()?;
    let server = rustix::process::Pid::from_child(&server);
    loop {
        match rustix::process::wait(rustix::process::WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == server => {
                return Err(io::Error::other(format!("the server ended: {status:?}")));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn serve() -> io::Result<()> {
    let secret = fs::read("/etc/armlab/token")?;
    let token =
        wire::Token::try_from(secret).map_err(|_| io::Error::other("the token's length"))?;
    let outer = Arc::new(outer::Outer::default());
    outer.expose()?;
    let listener = TcpListener::bind(("0.0.0.0", wire::PORT))?;
    println!("{}", wire::READY);
    static RUN: AtomicU64 = AtomicU64::new(1);
    loop {
        let (stream, _) = listener.accept()?;
        let outer = Arc::clone(&outer);
        thread::spawn(move || {
            let run = RUN.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = connection::serve(stream, &token, &outer, run) {
                eprintln!("armlab-agent: run {run}: {error}");
            }
        });
    }
}

/// Joins the control group and becomes the program; returns only when that fails, with a shell's status.
fn enter(arguments: Vec<OsString>) -> ExitCode {
    let [cgroup, terminal, program, rest @ ..] = arguments.as_slice() else {
        eprintln!("armlab-agent: enter: too few arguments");
        return ExitCode::FAILURE;
    };
    if let Err(error) = group::join(cgroup, terminal.to_str()) {
        eprintln!("armlab: cannot prepare {}: {error}", program.display());
        return ExitCode::from(126);
    }
    let error = Command::new(program).args(rest).exec();
    eprintln!("armlab: {}: {error}", program.display());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
}
