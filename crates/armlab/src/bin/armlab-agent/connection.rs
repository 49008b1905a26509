//! One connection, from the greeting to the exit status.

use crate::outer::Outer;
use crate::session::Session;
use cubie_armlab::wire::{self, Frame, Link, MAGIC, Token};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use std::io::{self, Read};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// What a runner has to send its greeting, and at the end to close the connection.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn serve(
    mut stream: TcpStream,
    token: &Token,
    outer: &Outer,
    run: u64,
) -> io::Result<()> {
    if !greet(&mut stream, token)? {
        return Ok(());
    }
    let mut link = Link::new(stream)?;
    let Some((command, early)) = first(&mut link)? else {
        return Ok(());
    };
    let end = match Session::start(&mut link, &command, outer, run) {
        Ok(mut session) => match session.run(early)? {
            Some(status) => status_frame(status),
            None => return Ok(()),
        },
        Err(error) => Frame::Refused(error.to_string()),
    };
    link.send(&end);
    linger(&mut link)
}

fn greet(stream: &mut TcpStream, token: &Token) -> io::Result<bool> {
    let mut greeting = [0; MAGIC.len() + size_of::<Token>()];
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_exact(&mut greeting)?;
    let expected = MAGIC.iter().chain(token);
    // All bytes are compared, wherever the first difference is.
    let differences =
        greeting.iter().zip(expected).map(|(a, b)| a ^ b).fold(0, |all, one| all | one);
    Ok(differences == 0)
}

/// The command, and frames that came with it.
fn first(link: &mut Link) -> io::Result<Option<(wire::Command, Vec<Frame>)>> {
    loop {
        wait(link, PollFlags::IN, None)?;
        if !link.fill()? {
            return Ok(None);
        }
        let mut frames = link.frames()?.into_iter();
        while let Some(frame) = frames.next() {
            match frame {
                Frame::Run(command) => return Ok(Some((*command, frames.collect()))),
                Frame::Ping => link.send(&Frame::Pong),
                other => return Err(io::Error::other(format!("{other:?} before a command"))),
            }
        }
        link.flush()?;
    }
}

fn wait(link: &Link, events: PollFlags, timeout: Option<Duration>) -> io::Result<bool> {
    let timeout = timeout.map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: 0 });
    Ok(poll(&mut [PollFd::new(link, events)], timeout.as_ref())? > 0)
}

/// Sends the rest and waits for the runner to close: closing first, with input of its unread, would reset the
/// connection and could lose what it has not read yet.
fn linger(link: &mut Link) -> io::Result<()> {
    loop {
        link.flush()?;
        let events =
            if link.backlog() > 0 { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        if !wait(link, events, Some(PATIENCE))? || !link.fill()? {
            return Ok(());
        }
        link.frames()?;
    }
}

fn status_frame(status: ExitStatus) -> Frame {
    match (status.code(), status.signal()) {
        (Some(code), _) => Frame::Exited(code),
        (None, signal) => Frame::Killed(signal.unwrap_or_default()),
    }
}
