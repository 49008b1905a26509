//! A vhost-user daemon with a disk, whose front-end says anything: messages that cannot be, in any order, with any
//! files, and between them decent ones, which lead far enough for the rings to be served.
//!
//! What must hold whatever it says: nothing panics, the front-end is dropped with a reason of one line or leaves by
//! itself, and the next one is served.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use arbitrary::{Arbitrary, Unstructured};
use cubie_vhost_user::{Dropped, Server};
use cubie_virtio_blk::{Blk, MemoryDisk};
use cubie_virtio_core::serve_at_start;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

const MOST_STEPS: usize = 60;
const MOST_FILES: usize = 4;
/// Bytes of a message of arbitrary ones.
const MOST_BYTES: usize = 96;
/// Guest memory, at the same address for the guest and the front-end.
const RAM: u64 = 0x1_0000;
const RAM_SIZE: u64 = 0x1_0000;
const VERSION: u32 = 1;

#[derive(Arbitrary, Debug)]
struct Session {
    /// What is in guest memory, from the first ring on.
    memory: Vec<u8>,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// As it is.
    Bytes(Vec<u8>, Vec<Attached>),
    /// With a header that is right, if the flags are 0.
    Message(u8, u8, Vec<u8>, Vec<Attached>),
    Decent(Decent),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Attached {
    Memory,
    Event,
    Socket,
    Pipe,
}

/// What a decent front-end says. Numbers choose queues, of which there is one, and what is wanted.
#[derive(Arbitrary, Debug)]
enum Decent {
    Features {
        packed: bool,
    },
    Protocol,
    Table,
    Add,
    Remove,
    /// Size, place, progress.
    Ring {
        size: u8,
        base: u16,
    },
    On,
    Off,
    Call,
    GetInflight,
    SetInflight,
    Config(u8),
    Reset,
    Status(u8),
}

/// What a front-end has come to.
pub fn play(bytes: &[u8]) -> Option<String> {
    let session = Session::arbitrary_take_rest(Unstructured::new(bytes)).ok()?;
    let disk = MemoryDisk::new(vec![7; 4096]);
    let mut server = Server::new(Box::new(Blk::new(disk, "fuzz".parse().ok()?)));
    let files = Files::new(&session.memory);
    let end = serve(&mut server, |socket| {
        let steps = session.steps.iter().take(MOST_STEPS);
        for (bytes, attached) in steps.map(Step::message) {
            files.send(socket, &bytes, &attached);
        }
    });
    let outcome = match end {
        Ok(()) => "left".into(),
        Err(reason) => {
            assert!(!reason.to_string().contains('\n'), "{reason}");
            kind(&reason)
        }
    };
    // Who comes next is served.
    let (ask, mut answer) = (message(1, VERSION, &[]), [0; 20]);
    let mut next = None;
    serve(&mut server, |socket| {
        (&*socket).write_all(&ask).expect("room for it");
        next = socket.try_clone().ok();
    })
    .expect("a decent front-end");
    next.expect("a socket").read_exact(&mut answer).expect("an answer");
    Some(outcome)
}

/// A front-end that says all that it has to say at once, and leaves.
fn serve(server: &mut Server, say: impl FnOnce(&mut UnixStream)) -> Result<(), Dropped> {
    let (mut ours, theirs) = UnixStream::pair().expect("a socket");
    let (never, _open) = UnixStream::pair().expect("a socket");
    say(&mut ours);
    ours.shutdown(std::net::Shutdown::Write).expect("it is connected");
    serve_at_start(|| server.serve(theirs, never))
}

/// The reason's name.
fn kind(reason: &Dropped) -> String {
    let text = format!("{reason:?}").to_lowercase();
    text.chars().take_while(char::is_ascii_alphanumeric).collect()
}

fn message(code: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    let header = [code, flags, body.len() as u32];
    header.into_iter().flat_map(u32::to_ne_bytes).chain(body.iter().copied()).collect()
}

fn longs(words: &[u64]) -> Vec<u8> {
    words.iter().copied().flat_map(u64::to_ne_bytes).collect()
}

fn state(number: u32) -> Vec<u8> {
    [0, number].into_iter().flat_map(u32::to_ne_bytes).collect()
}

impl Step {
    /// Bytes, and the files that come with them.
    fn message(&self) -> (Vec<u8>, Vec<Attached>) {
        match self {
            Self::Bytes(bytes, files) => (shortened(bytes), files.clone()),
            Self::Message(code, flags, body, files) => {
                // Also some codes that there are none of.
                let code = u32::from(*code % 48);
                (message(code, VERSION | u32::from(*flags), &shortened(body)), files.clone())
            }
            Self::Decent(decent) => decent.messages(),
        }
    }
}

fn shortened(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(MOST_BYTES)].into()
}

impl Decent {
    fn messages(&self) -> (Vec<u8>, Vec<Attached>) {
        use Attached::{Event, Memory};
        let one = |code, body: &[u8]| message(code, VERSION, body);
        let region = longs(&[RAM, RAM_SIZE, RAM, 0]);
        let single = [longs(&[0]), region.clone()].concat();
        let table = [[1u32, 0].map(u32::to_ne_bytes).concat(), region].concat();
        // One queue of 16.
        let inflight = [longs(&[320, 0]), [1u16, 16, 0, 0].map(u16::to_ne_bytes).concat()].concat();
        match self {
            Self::Features { packed } => {
                // VERSION_1, PROTOCOL_FEATURES, INDIRECT.
                let bits = 1 << 32 | 1 << 30 | 1 << 28 | u64::from(*packed) << 34;
                (one(2, &longs(&[bits])), vec![])
            }
            Self::Protocol => (one(16, &longs(&[0x1_b229])), vec![]),
            Self::Table => (one(5, &table), vec![Memory]),
            Self::Add => (one(37, &single), vec![Memory]),
            Self::Remove => (one(38, &single), vec![]),
            Self::Ring { size, base } => {
                let places = [0, RAM, RAM + 0x2000, RAM + 0x1000, 0];
                let size = one(8, &state(u32::from(size % 64)));
                let base = one(10, &state((*base).into()));
                ([size, one(9, &longs(&places)), base].concat(), vec![])
            }
            Self::On => {
                // The file goes with the first of the two.
                ([one(12, &longs(&[0])), one(18, &state(1))].concat(), vec![Event])
            }
            Self::Off => (one(11, &state(0)), vec![]),
            Self::Call => (one(13, &longs(&[0])), vec![Event]),
            Self::GetInflight => (one(31, &inflight), vec![]),
            Self::SetInflight => (one(32, &inflight), vec![Memory]),
            Self::Config(size) => {
                let size = u32::from(size % 64);
                let header = [0, size, 0].map(u32::to_ne_bytes).concat();
                (one(24, &[header, vec![0; size as usize]].concat()), vec![])
            }
            Self::Reset => (one(34, &[]), vec![]),
            Self::Status(status) => (one(39, &longs(&[(*status).into()])), vec![]),
        }
    }
}

/// What can come with a message.
struct Files {
    memory: OwnedFd,
    event: OwnedFd,
    socket: UnixStream,
    pipe: OwnedFd,
}

impl Files {
    fn new(bytes: &[u8]) -> Self {
        let memory = memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("memory");
        rustix::fs::ftruncate(&memory, RAM_SIZE).expect("memory");
        let bytes = &bytes[..bytes.len().min(RAM_SIZE as usize)];
        rustix::io::pwrite(&memory, bytes, 0).expect("memory");
        let event = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
        let (socket, _) = UnixStream::pair().expect("a socket");
        let (pipe, _) = rustix::pipe::pipe().expect("a pipe");
        Self { memory, event, socket, pipe }
    }

    fn send(&self, socket: &UnixStream, bytes: &[u8], attached: &[Attached]) {
        let files = attached.iter().take(MOST_FILES).map(|file| match file {
            Attached::Memory => self.memory.as_fd(),
            Attached::Event => self.event.as_fd(),
            Attached::Socket => self.socket.as_fd(),
            Attached::Pipe => self.pipe.as_fd(),
        });
        let files: Vec<_> = files.collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&files));
        }
        // A message of nothing takes no files along.
        let _ = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
    }
}
