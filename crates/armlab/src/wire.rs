//! What the two ends of a run say to each other: small frames over one TCP connection.
//!
//! The runner opens a connection for each run and sends [`MAGIC`] and the lab's [`Token`] before anything
//! else. The agent compares them and closes the connection of a stranger without a word. After that both
//! sides send [`Frame`]s, each a kind (1 byte), a length (4 bytes, little endian) and a body:
//!
//! 1. The runner sends [`Frame::Run`]. The agent starts the command or answers [`Frame::Refused`].
//! 2. [`Frame::Stdin`] goes in, at most [`WINDOW`] bytes ahead of what [`Frame::Taken`] has confirmed;
//!    [`Frame::Stdout`] and [`Frame::Stderr`] come out as fast as the runner reads.
//! 3. [`Frame::Ping`] may be sent at any time and is answered by [`Frame::Pong`].
//! 4. [`Frame::Exited`] or [`Frame::Killed`] is the last frame of the agent. When the runner's end of the
//!    connection closes before that, the agent kills the command.
//!
//! Neither side ever blocks on the connection: [`Link`] keeps what the other side has not taken yet, and each
//! side stops reading its own sources while [`Link::backlog`] is high.

mod link;

pub use link::Link;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The first bytes of each connection; the digit counts changes of this protocol.
pub const MAGIC: [u8; 8] = *b"ARMLAB1\n";

/// A secret of one lab, which only its user can read.
pub type Token = [u8; 32];

/// Bytes of standard input that may be under way.
pub const WINDOW: usize = 256 << 10;

/// Bytes waiting in a [`Link`] above which its owner should not add more.
pub const HIGH_WATER: usize = 512 << 10;

/// The port that the agent listens on inside the lab.
pub const PORT: u16 = 1;

/// What the agent prints on the lab's serial console when it listens.
pub const READY: &str = "armlab: ready";

/// Kind and length before each body.
const HEADER: usize = 5;

/// A standard stream of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// Which standard streams are terminals outside, and so have to be terminals inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminals {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// A command for the lab.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; the program is looked up in the lab's `PATH` when it has no slash.
    pub argv: Vec<OsString>,
    /// The whole environment, except what the lab itself sets (`PATH`, `TMPDIR`, `SHELL`).
    pub env: Vec<(OsString, OsString)>,
    /// Working folder.
    pub cwd: OsString,
    /// Streams that are terminals.
    pub terminals: Terminals,
    /// Size of that terminal.
    pub size: Size,
}

/// One message. Those from [`Frame::Taken`] on go from the agent to the runner, the others to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Start this; once, first.
    Run(Box<Command>),
    /// Bytes for standard input.
    Stdin(Vec<u8>),
    /// Standard input has ended.
    StdinEnd,
    /// Nobody reads this stream any more: the command shall see a broken pipe.
    Close(Stream),
    /// Send this signal to the command's process group.
    Signal(i32),
    /// The terminal has another size now.
    Resize(Size),
    /// Are you there?
    Ping,
    /// So many bytes of standard input have reached the command.
    Taken(u32),
    /// Bytes of standard output.
    Stdout(Vec<u8>),
    /// Bytes of standard error.
    Stderr(Vec<u8>),
    /// The command ended with this status.
    Exited(i32),
    /// The command was ended by this signal.
    Killed(i32),
    /// The command could not be started, and why.
    Refused(String),
    /// Yes.
    Pong,
}

impl Frame {
    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        let kind = match self {
            Frame::Run(command) => {
                command.encode(out);
                1
            }
            Frame::Stdin(bytes) => body(out, 2, bytes),
            Frame::StdinEnd => 3,
            Frame::Close(stream) => body(out, 4, &[*stream as u8]),
            Frame::Signal(number) => body(out, 5, &number.to_le_bytes()),
            Frame::Resize(size) => body(out, 6, &size.to_bytes()),
            Frame::Ping => 7,
            Frame::Taken(count) => body(out, 8, &count.to_le_bytes()),
            Frame::Stdout(bytes) => body(out, 9, bytes),
            Frame::Stderr(bytes) => body(out, 10, bytes),
            Frame::Exited(status) => body(out, 11, &status.to_le_bytes()),
            Frame::Killed(signal) => body(out, 12, &signal.to_le_bytes()),
            Frame::Refused(why) => body(out, 13, why.as_bytes()),
            Frame::Pong => 14,
        };
        let length = (out.len() - start - HEADER) as u32;
        out[start] = kind;
        out[start + 1..start + HEADER].copy_from_slice(&length.to_le_bytes());
    }

    fn decode(kind: u8, body: &[u8]) -> Option<Frame> {
        Some(match kind {
            1 => Frame::Run(Box::new(Command::decode(body)?)),
            2 => Frame::Stdin(body.to_vec()),
            3 => Frame::StdinEnd,
            4 => Frame::Close(match body {
                [0] => Stream::Stdout,
                [1] => Stream::Stderr,
                _ => return None,
            }),
            5 => Frame::Signal(i32::from_le_bytes(body.try_into().ok()?)),
            6 => Frame::Resize(Size::from_bytes(body.try_into().ok()?)),
            7 => Frame::Ping,
            8 => Frame::Taken(u32::from_le_bytes(body.try_into().ok()?)),
            9 => Frame::Stdout(body.to_vec()),
            10 => Frame::Stderr(body.to_vec()),
            11 => Frame::Exited(i32::from_le_bytes(body.try_into().ok()?)),
            12 => Frame::Killed(i32::from_le_bytes(body.try_into().ok()?)),
            13 => Frame::Refused(String::from_utf8_lossy(body).into_owned()),
            14 => Frame::Pong,
            _ => return None,
        })
    }
}

fn body(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) -> u8 {
    out.extend_from_slice(bytes);
    kind
}

impl Size {
    fn to_bytes(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.rows.to_le_bytes(), self.columns.to_le_bytes());
        [a, b, c, d]
    }

    fn from_bytes([a, b, c, d]: [u8; 4]) -> Size {
        Size { rows: u16::from_le_bytes([a, b]), columns: u16::from_le_bytes([c, d]) }
    }
}

impl Command {
    /// The terminals (3 bytes), the size, the working folder, the number of arguments; then the arguments,
    /// names and values, each with its length.
    fn encode(&self, out: &mut Vec<u8>) {
        let Terminals { stdin, stdout, stderr } = self.terminals;
        out.extend_from_slice(&[stdin.into(), stdout.into(), stderr.into()]);
        out.extend_from_slice(&self.size.to_bytes());
        out.extend_from_slice(&(self.argv.len() as u32).to_le_bytes());
        let env = self.env.iter().flat_map(|(name, value)| [name, value]);
        for text in [&self.cwd].into_iter().chain(&self.argv).chain(env) {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }

    fn decode(mut body: &[u8]) -> Option<Command> {
        let [stdin, stdout, stderr] = take(&mut body)?.map(|flag: u8| flag != 0);
        let size = Size::from_bytes(take(&mut body)?);
        let count = u32::from_le_bytes(take(&mut body)?) as usize;
        let cwd = text(&mut body)?;
        let mut argv = Vec::new();
        for _ in 0..count {
            argv.push(text(&mut body)?);
        }
        let mut env = Vec::new();
        while !body.is_empty() {
            env.push((text(&mut body)?, text(&mut body)?));
        }
        Some(Command { argv, env, cwd, terminals: Terminals { stdin, stdout, stderr }, size })
    }
}

fn take<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(*head)
}

fn text(body: &mut &[u8]) -> Option<OsString> {
    let length = u32::from_le_bytes(take(body)?) as usize;
    let (head, rest) = body.split_at_checked(length)?;
    *body = rest;
    Some(OsString::from_vec(head.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<Frame> {
        let command = Command {
            argv: vec!["program".into(), OsString::from_vec(vec![0xff]), "".into()],
            env: vec![("NAME".into(), "a=b c".into())],
            cwd: "/tmp".into(),
            terminals: Terminals { stdin: true, stdout: false, stderr: true },
            size: Size { rows: 24, columns: 300 },
        };
        vec![
            Frame::Run(Box::new(command)),
            Frame::Run(Box::default()),
            Frame::Stdin(vec![1, 2, 3]),
            Frame::StdinEnd,
            Frame::Close(Stream::Stdout),
            Frame::Close(Stream::Stderr),
            Frame::Signal(15),
            Frame::Resize(Size { rows: 1, columns: 65535 }),
            Frame::Ping,
            Frame::Taken(70_000),
            Frame::Stdout(vec![]),
            Frame::Stderr(b"text".to_vec()),
            Frame::Exited(-1),
            Frame::Killed(9),
            Frame::Refused("no".into()),
            Frame::Pong,
        ]
    }

    #[test]
    fn frames_are_decoded_as_they_were_encoded() {
        for frame in frames() {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            let length = u32::from_le_bytes(bytes[1..5].try_into().unwrap()) as usize;
            assert_eq!(length, bytes.len() - HEADER);
            assert_eq!(Frame::decode(bytes[0], &bytes[HEADER..]), Some(frame));
        }
    }

    #[test]
    fn a_command_that_is_cut_short_is_no_frame() {
        let mut bytes = Vec::new();
        frames()[0].encode(&mut bytes);
        let body = &bytes[HEADER..];
        let ends_of_pairs = [body.len(), body.len() - 4 - 4 - 4 - 5];
        for end in (0..body.len()).filter(|end| !ends_of_pairs.contains(end)) {
            assert_eq!(Frame::decode(1, &body[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn an_unknown_kind_is_no_frame() {
        assert_eq!(Frame::decode(0, &[]), None);
        assert_eq!(Frame::decode(15, &[]), None);
    }
}
