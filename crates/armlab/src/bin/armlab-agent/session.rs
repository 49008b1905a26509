//! A running command, between its streams and the connection.

use crate::group::Group;
use crate::outer::Outer;
use crate::pipes::{Ends, Pipes};
use cubie_armlab::wire::{self, Frame, HIGH_WATER, Link};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};

const PATH: &str = "/bin:/sbin:/usr/bin:/usr/sbin";

/// A running command.
pub(crate) struct Session<'a> {
    link: &'a mut Link,
    pipes: Pipes,
    /// Input that the command has not taken yet.
    input: Vec<u8>,
    input_ended: bool,
    child: Child,
    pid: Pid,
    exit: OwnedFd,
    status: Option<ExitStatus>,
    group: Group,
    _scratch: Scratch,
}

/// What `poll` said is ready.
enum Ready {
    Link,
    Input,
    Output(usize),
    Exit,
}

impl<'a> Session<'a> {
    pub(crate) fn start(
        link: &'a mut Link,
        command: &wire::Command,
        outer: &Outer,
        run: u64,
    ) -> io::Result<Self> {
        outer.expose()?;
        let cwd = PathBuf::from(&command.cwd);
        if !cwd.is_dir() {
            let why = format!("the working folder {} is not visible in the lab", cwd.display());
            return Err(io::Error::other(why));
        }
        let scratch = Scratch::new(run)?;
        let group = Group::new(run)?;
        let (pipes, ends) = Pipes::open(command)?;
        let child = start(command, ends, &group, &scratch)?;
        let pid = Pid::from_child(&child);
        let exit = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Session {
            link,
            pipes,
            input: Vec::new(),
            input_ended: false,
            child,
            pid,
            exit,
            status: None,
            group,
            _scratch: scratch,
        })
    }

    /// Serves until the command and all it has started are gone; `None` when the runner is gone first.
    pub(crate) fn run(&mut self, early: Vec<Frame>) -> io::Result<Option<ExitStatus>> {
        for frame in early {
            self.handle(frame)?;
        }
        loop {
            if let (Some(status), true) = (self.status, self.pipes.outputs.is_empty()) {
                return Ok(Some(status));
            }
            for ready in self.wait()? {
                match ready {
                    Ready::Link => {
                        if !self.link.fill()? {
                            return Ok(None);
                        }
                        for frame in self.link.frames()? {
                            self.handle(frame)?;
                        }
                    }
                    Ready::Input => self.feed(),
                    Ready::Output(index) => {
                        if let Some(frame) = self.pipes.read(index) {
                            self.link.send(&frame);
                        }
                    }
                    Ready::Exit => {
                        self.status = Some(self.child.wait()?);
                        self.group.kill()?;
                    }
                }
            }
            self.link.flush()?;
        }
    }

    fn wait(&self) -> io::Result<Vec<Ready>> {
        let mut fds = Vec::new();
        let mut names = Vec::new();
        // Outputs last and backwards: reading the end of one removes it.
        let link =
            if self.link.backlog() > 0 { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        fds.push(PollFd::new(&*self.link, link));
        names.push(Ready::Link);
        if let (false, Some(stdin)) = (self.input.is_empty(), &self.pipes.stdin) {
            fds.push(PollFd::new(stdin, PollFlags::OUT));
            names.push(Ready::Input);
        }
        if self.link.backlog() < HIGH_WATER {
            for (index, output) in self.pipes.outputs.iter().enumerate().rev() {
                fds.push(PollFd::new(&output.file, PollFlags::IN));
                names.push(Ready::Output(index));
            }
        }
        if self.status.is_none() {
            fds.push(PollFd::new(&self.exit, PollFlags::IN));
            names.push(Ready::Exit);
        }
        poll(&mut fds, None)?;
        let ready = fds.iter().zip(names).filter(|(fd, _)| !fd.revents().is_empty());
        Ok(ready.map(|(_, name)| name).collect())
    }

    fn handle(&mut self, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::Stdin(bytes) => {
                self.input.extend_from_slice(&bytes);
                self.feed();
            }
            Frame::StdinEnd => {
                self.input_ended = true;
                self.feed();
            }
            Frame::Close(stream) => self.pipes.close(stream),
            Frame::Signal(number) => {
                if let (Some(signal), None) = (Signal::from_named_raw(number), self.status) {
                    kill_process_group(self.pid, signal)?;
                }
            }
            Frame::Resize(size) => self.pipes.resize(size)?,
            Frame::Ping => self.link.send(&Frame::Pong),
            other => return Err(io::Error::other(format!("{other:?} is not for the agent"))),
        }
        Ok(())
    }

    /// Passes input on, as much as the command takes now.
    fn feed(&mut self) {
        let taken = self.pipes.write(&self.input);
        if taken.is_none() {
            self.pipes.stdin = None; // it reads no more: the rest is for nobody
        }
        let taken = taken.unwrap_or(self.input.len());
        self.input.drain(..taken);
        if taken > 0 {
            self.link.send(&Frame::Taken(taken as u32));
        }
        if self.input_ended && self.input.is_empty() {
            self.pipes.end_stdin();
            self.input_ended = false;
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.group.kill().and_then(|()| self.child.wait()) {
            eprintln!("armlab-agent: process {:?}: {error}", self.pid);
        }
    }
}

fn start(
    command: &wire::Command,
    ends: Ends,
    group: &Group,
    scratch: &Scratch,
) -> io::Result<Child> {
    let terminals = command.terminals;
    let terminal = match (terminals.stdin, terminals.stdout, terminals.stderr) {
        (true, _, _) => "0",
        (_, true, _) => "1",
        (_, _, true) => "2",
        _ => "no",
    };
    let [stdin, stdout, stderr] = ends;
    Command::new("/proc/self/exe")
        .arg("enter")
        .args([group.folder().as_os_str(), terminal.as_ref()])
        .args(&command.argv)
        .env_clear()
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .env("PATH", PATH)
        .env("SHELL", "/bin/sh")
        .env("TMPDIR", &scratch.0)
        .current_dir(&command.cwd)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
}

/// A folder for temporary files in the lab's memory, gone after the run.
struct Scratch(PathBuf);

impl Scratch {
    fn new(run: u64) -> io::Result<Scratch> {
        let folder = PathBuf::from(format!("/run/tmp/{run}"));
        fs::create_dir_all(&folder)?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("armlab-agent: {}: {error}", self.0.display());
        }
    }
}
