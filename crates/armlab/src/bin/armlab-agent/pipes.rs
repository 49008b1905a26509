//! The command's three standard streams: a pipe each, or one terminal for those that are terminals outside.

use cubie_armlab::wire::{Command, Frame, Size, Stream, Terminals};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;

/// Our ends of the streams.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdin: Option<File>,
    pub(crate) outputs: Vec<Output>,
    terminal: Option<File>,
}

/// What the command writes.
#[derive(Debug)]
pub(crate) struct Output {
    /// Where it goes; nowhere when it is the echo of a terminal that the command only reads from.
    stream: Option<Stream>,
    pub(crate) file: File,
}

/// The command's ends, in the order of their numbers.
pub(crate) type Ends = [Stdio; 3];

impl Pipes {
    pub(crate) fn open(command: &Command) -> io::Result<(Pipes, Ends)> {
        let flags = command.terminals;
        let terminal = match flags.stdin || flags.stdout || flags.stderr {
            true => Some(open_terminal(command)?),
            false => None,
        };
        let peer = || terminal.as_ref().map(|(_, peer)| peer.try_clone()).transpose();
        let mut pipes = Pipes { stdin: None, outputs: Vec::new(), terminal: None };

        let stdin = if let (true, Some(peer)) = (flags.stdin, peer()?) {
            Stdio::from(peer)
        } else {
            let (theirs, ours) = io::pipe()?;
            pipes.stdin = Some(File::from(OwnedFd::from(ours)));
            Stdio::from(theirs)
        };
        let mut output = |stream, is_terminal| {
            if let (true, Some(peer)) = (is_terminal, peer()?) {
                return Ok(Stdio::from(peer));
            }
            let (ours, theirs) = io::pipe()?;
            pipes
                .outputs
                .push(Output { stream: Some(stream), file: File::from(OwnedFd::from(ours)) });
            Ok::<_, io::Error>(Stdio::from(theirs))
        };
        let stdout = output(Stream::Stdout, flags.stdout)?;
        let stderr = output(Stream::Stderr, flags.stderr)?;
        if let Some((master, _)) = terminal {
            let master = File::from(master);
            let stream = match flags {
                Terminals { stdout: true, .. } => Some(Stream::Stdout),
                Terminals { stderr: true, .. } => Some(Stream::Stderr),
                _ => None,
            };
            pipes.outputs.push(Output { stream, file: master.try_clone()? });
            if flags.stdin {
                pipes.stdin = Some(master.try_clone()?);
            }
            pipes.terminal = Some(master);
        }
        if let Some(stdin) = &pipes.stdin {
            rustix::io::ioctl_fionbio(stdin, true)?;
        }
        Ok((pipes, [stdin, stdout, stderr]))
    }

    /// Writes some of `bytes`; how many, or `None` when the command has closed its end.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        match self.stdin.as_mut()?.write(bytes) {
            Ok(count) => Some(count),
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) =>
            {
                Some(0)
            }
            Err(_) => None,
        }
    }

    /// Reads once from output `index`; the stream is forgotten at its end.
    pub(crate) fn read(&mut self, index: usize) -> Option<Frame> {
        let mut bytes = vec![0; 64 << 10];
        let output = &mut self.outputs[index];
        match output.file.read(&mut bytes) {
            Ok(count) if count > 0 => {
                bytes.truncate(count);
                output.stream.map(|stream| match stream {
                    Stream::Stdout => Frame::Stdout(bytes),
                    Stream::Stderr => Frame::Stderr(bytes),
                })
            }
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) =>
            {
                None
            }
            // A terminal that nobody has open any more answers with an error (EIO).
            Ok(_) | Err(_) => {
                self.outputs.remove(index);
                None
            }
        }
    }

    /// Stops reading a stream: who writes to it gets a broken pipe. A terminal stays.
    pub(crate) fn close(&mut self, stream: Stream) {
        if self.terminal.is_none() {
            self.outputs.retain(|output| output.stream != Some(stream));
        }
    }

    /// Tells the command that no more input follows: a terminal gets Ctrl-D, a pipe is closed.
    pub(crate) fn end_stdin(&mut self) {
        if self.terminal.is_none() {
            self.stdin = None;
        } else {
            self.write(&[4]);
        }
    }

    pub(crate) fn resize(&self, size: Size) -> io::Result<()> {
        match &self.terminal {
            Some(terminal) => Ok(tcsetwinsize(terminal, winsize(size))?),
            None => Ok(()),
        }
    }
}

/// A new terminal: our end and the command's.
fn open_terminal(command: &Command) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let peer = ioctl_tiocgptpeer(&master, flags)?;
    tcsetwinsize(&master, winsize(command.size))?;
    if !command.terminals.stdin {
        // The outer terminal is not in raw mode then, and makes CR LF of LF by itself.
        let mut modes = tcgetattr(&peer)?;
        modes.output_modes -= OutputModes::OPOST;
        tcsetattr(&peer, OptionalActions::Now, &modes)?;
    }
    Ok((master, peer))
}

fn winsize(size: Size) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}
