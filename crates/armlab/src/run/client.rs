//! The outer end of a run: one loop over the command's streams, the connection and this process's signals.

use super::clock::{Clock, Expired};
use super::output::Output;
use super::signals::{Signals, translate};
use crate::lab::Lab;
use crate::wire::{Command, Frame, HIGH_WATER, Link, Stream, WINDOW};
use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::os::fd::BorrowedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// The descriptors that stand for the command's streams.
pub(super) struct Streams<'a> {
    pub(super) stdin: BorrowedFd<'a>,
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
}

pub(super) struct Client<'a> {
    lab: &'a Lab,
    link: Link,
    stdin: Option<BorrowedFd<'a>>,
    /// Bytes of input that the command has not confirmed.
    under_way: usize,
    outputs: [Output<'a>; 2],
    signals: Option<&'a mut Signals>,
    clock: Clock,
    status: Option<ExitStatus>,
}

enum Ready {
    Link,
    Stdin,
    Output(usize),
    Signal,
}

impl<'a> Client<'a> {
    pub(super) fn start(
        lab: &'a Lab,
        command: Command,
        streams: Streams<'a>,
        signals: Option<&'a mut Signals>,
        timeout: Option<Duration>,
    ) -> Result<Client<'a>> {
        let mut link = lab.connect()?;
        link.send(&Frame::Run(Box::new(command)));
        link.flush()?;
        Ok(Client {
            lab,
            link,
            stdin: Some(streams.stdin),
            under_way: 0,
            outputs: [
                Output::new(Stream::Stdout, streams.stdout),
                Output::new(Stream::Stderr, streams.stderr),
            ],
            signals,
            clock: Clock::start(timeout)?,
            status: None,
        })
    }

    pub(super) fn serve(mut self) -> Result<ExitStatus> {
        loop {
            let waiting = self.outputs.iter().any(|output| !output.waiting.is_empty());
            if let (Some(status), false) = (self.status, waiting) {
                return Ok(status);
            }
            let ready = self.wait()?;
            self.look_at_the_clock()?;
            if ready.is_empty() {
                self.ask()?;
            }
            for ready in ready {
                match ready {
                    Ready::Link => self.receive()?,
                    Ready::Stdin => self.read_stdin(),
                    Ready::Output(index) => self.write(index),
                    Ready::Signal => self.pass_signals(),
                }
            }
            if let Err(error) = self.link.flush()
                && self.status.is_none()
            {
                return Err(error).with_context(|| self.gone());
            }
        }
    }

    fn gone(&self) -> String {
        format!("the lab ended during the run; see {}", self.lab.console().display())
    }

    /// Bytes that wait for a slow reader outside; the lab has to wait as well then.
    fn is_full(&self) -> bool {
        self.outputs.iter().any(|output| output.waiting.len() > HIGH_WATER)
    }

    /// What can be done now; nothing when a time is up.
    fn wait(&self) -> Result<Vec<Ready>> {
        let mut fds = Vec::new();
        let mut names = Vec::new();
        if let Some(signals) = &self.signals {
            fds.push(PollFd::new(&**signals, PollFlags::IN));
            names.push(Ready::Signal);
        }
        let mut link = PollFlags::empty();
        link.set(PollFlags::IN, !self.is_full() && self.status.is_none());
        link.set(PollFlags::OUT, self.link.backlog() > 0);
        if !link.is_empty() {
            fds.push(PollFd::new(&self.link, link));
            names.push(Ready::Link);
        }
        if let (Some(stdin), true, None) = (&self.stdin, self.under_way < WINDOW, self.status) {
            fds.push(PollFd::new(stdin, PollFlags::IN));
            names.push(Ready::Stdin);
        }
        for (index, output) in self.outputs.iter().enumerate() {
            if let (Some(fd), false) = (output.fd(), output.waiting.is_empty()) {
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::OUT));
                names.push(Ready::Output(index));
            }
        }
        match poll(&mut fds, Some(&Timespec::try_from(self.clock.patience())?)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = fds.iter().zip(names).filter(|(fd, _)| !fd.revents().is_empty());
        Ok(ready.map(|(_, name)| name).collect())
    }

    fn receive(&mut self) -> Result<()> {
        if !self.link.fill().with_context(|| self.gone())? && self.status.is_none() {
            bail!(self.gone());
        }
        for frame in self.link.frames()? {
            self.clock.answered();
            match frame {
                Frame::Stdout(bytes) => self.outputs[0].waiting.extend(bytes),
                Frame::Stderr(bytes) => self.outputs[1].waiting.extend(bytes),
                Frame::Taken(count) => {
                    self.under_way = self.under_way.saturating_sub(count as usize);
                }
                Frame::Exited(code) => self.status = Some(ExitStatus::from_raw((code & 0xff) << 8)),
                Frame::Killed(signal) => self.status = Some(ExitStatus::from_raw(signal & 0x7f)),
                Frame::Refused(why) => bail!("the lab cannot run it: {why}"),
                Frame::Pong => {}
                other => bail!("unexpected from the lab: {other:?}"),
            }
        }
        (0..self.outputs.len()).for_each(|index| self.write(index));
        Ok(())
    }

    fn write(&mut self, index: usize) {
        if self.outputs[index].write().is_err() {
            // As the command itself would see it: a pipe without a reader.
            self.link.send(&Frame::Close(self.outputs[index].stream));
        }
    }

    fn read_stdin(&mut self) {
        let Some(stdin) = self.stdin else { return };
        let mut bytes = vec![0; (WINDOW - self.under_way).min(64 << 10)];
        match rustix::io::read(stdin, &mut bytes) {
            Ok(count) if count > 0 => {
                bytes.truncate(count);
                self.under_way += count;
                self.link.send(&Frame::Stdin(bytes));
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(_) | Err(_) => {
                self.link.send(&Frame::StdinEnd);
                self.stdin = None;
            }
        }
    }

    fn pass_signals(&mut self) {
        let Some(signals) = &mut self.signals else {
            return;
        };
        for signal in signals.pending() {
            let (frame, ends) = translate(signal);
            self.link.send(&frame);
            if ends {
                self.clock.told_to_end(signal);
            }
        }
    }

    fn look_at_the_clock(&mut self) -> Result<()> {
        if let Some(signal) = self.clock.out_of_patience() {
            self.status = Some(ExitStatus::from_raw(signal)); // closing the connection kills the command
            self.outputs.iter_mut().for_each(|output| output.waiting.clear());
        } else if let Some(limit) = self.clock.out_of_time() {
            let (limit, console) = (limit.as_secs(), self.lab.console());
            let why = "the command was killed after";
            bail!(Expired(format!("{why} {limit} s (ARMLAB_TIMEOUT); see {}", console.display())));
        }
        Ok(())
    }

    /// Nothing has happened for a while: does the lab hang?
    fn ask(&mut self) -> Result<()> {
        if self.is_full() || self.status.is_some() {
            return Ok(()); // it may have answered: we do not listen
        }
        if let Some(silence) = self.clock.ask() {
            self.lab.stop()?;
            let (silence, console) = (silence.as_secs(), self.lab.console());
            let why = "the lab has not answered for";
            bail!(Expired(format!("{why} {silence} s and was ended; see {}", console.display())));
        }
        self.link.send(&Frame::Ping);
        Ok(())
    }
}
