//! The data plane.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cubie_virtio_core::{Handler, QueueState, Source, Virtqueue};
use cubie_virtq::{Chain, Drained, Serve};

use crate::protocol::{Command, Status, locate};
use crate::request::Answer;
use crate::{BlockBackend, Completion, Operation, Request, Serial};

/// The driver's kick.
const KICK: u32 = 0;
/// The backend has finished something.
const FINISHED: u32 = 1;

/// Once so much payload was served in one turn, other events come first: a device that is busy can
/// still be stopped.
const MOST_BYTES_A_TURN: usize = 16 << 20;

/// What it counts for in that when the disk itself is waited for, by a flush or a write that goes through.
const BYTES_A_FLUSH: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct BlkHandler<B> {
    backend: B,
    queue: Virtqueue,
    serial: Serial,
    /// Every write goes through to stable storage.
    through: bool,
    complaints: Complaints,
}

impl<B: BlockBackend> BlkHandler<B> {
    pub(crate) fn new(
        backend: B,
        queue: Virtqueue,
        serial: Serial,
        through: bool,
        complaints: Complaints,
    ) -> Self {
        Self { backend, queue, serial, through, complaints }
    }

    /// What outlives the worker, when nothing is in flight any more.
    pub(crate) fn park(mut self) -> (B, QueueState) {
        while let Some(completion) = self.backend.wait() {
            self.push(completion);
        }
        self.queue.signal();
        (self.backend, self.queue.state())
    }

    /// Serves what the driver has made available.
    fn serve(&mut self) {
        let Self { backend, queue, serial, through, complaints } = self;
        let disk = Disk {
            size: backend.size(),
            read_only: backend.is_read_only(),
            through: *through,
            serial,
        };
        let mut left = MOST_BYTES_A_TURN;
        let end = queue.drain(|chain| {
            if left == 0 {
                return Serve::Stop(chain);
            }
            let answer = match disk.admit(chain) {
                Ok(mut request) => {
                    let cost = cost(&mut request);
                    let Some(completion) = backend.submit(request) else {
                        return Serve::Later;
                    };
                    left = left.saturating_sub(cost);
                    complaints.note(&completion.result);
                    completion.answer()
                }
                Err(answer) => answer,
            };
            Serve::Done(answer.chain, answer.written)
        });
        if end == Drained::Stopped {
            queue.kick_itself();
        }
        backend.start();
    }

    /// Answers what the backend has finished meanwhile.
    fn collect(&mut self) {
        while let Some(completion) = self.backend.complete() {
            self.push(completion);
        }
        self.queue.signal();
    }

    fn push(&mut self, completion: Completion) {
        self.complaints.note(&completion.result);
        let Answer { chain, written } = completion.answer();
        self.queue.push(chain, written);
    }
}

impl<B: BlockBackend> Handler for BlkHandler<B> {
    fn sources(&self) -> Vec<Source> {
        let kick = Source::readable(self.queue.kick(), KICK);
        let finished = self.backend.ready_fd().map(|fd| Source::readable(&fd, FINISHED));
        [kick].into_iter().chain(finished).collect()
    }

    fn ready(&mut self, token: u32) {
        if token == KICK {
            self.serve();
        }
        self.collect();
    }
}

/// In bytes of payload.
fn cost(request: &mut Request) -> usize {
    let waits = match request.operation() {
        Operation::Flush | Operation::Write { through: true, .. } => BYTES_A_FLUSH,
        Operation::Read { .. } | Operation::Write { .. } => 0,
    };
    request.data().len() + waits
}

/// What a request is checked against.
struct Disk<'a> {
    size: u64,
    read_only: bool,
    through: bool,
    serial: &'a Serial,
}

impl Disk<'_> {
    /// Takes header and status off a chain. What is no work for a backend is answered here.
    fn admit(&self, mut chain: Chain) -> Result<Request, Answer> {
        if !chain.reserve_status() {
            tracing::debug!("a block request without room for a status");
            return Err(Answer { chain, written: 0 });
        }
        let command = chain.readable().read_array().map(Command::parse);
        let (data, room) = (chain.readable().len(), chain.writable().len());
        let operation = match command {
            // Payload on the wrong side is a mistake, not an empty request: nothing of it was asked for.
            Some(Command::Read { sector }) if data == 0 => {
                locate(sector, room, self.size).map(|offset| Operation::Read { offset })
            }
            Some(Command::Write { sector }) if room == 0 && !self.read_only => {
                let through = self.through;
                locate(sector, data, self.size).map(|offset| Operation::Write { offset, through })
            }
            Some(Command::Flush) => Some(Operation::Flush),
            Some(Command::GetId) => return Err(self.identify(chain, room)),
            Some(Command::Unsupported(_)) => {
                return Err(Answer::refuse(chain, Status::Unsupported));
            }
            Some(Command::Read { .. } | Command::Write { .. }) | None => None,
        };
        match operation {
            Some(operation) => Ok(Request::new(chain, operation)),
            None => {
                tracing::debug!(?command, data, room, "a block request that cannot be");
                Err(Answer::refuse(chain, Status::IoError))
            }
        }
    }

    fn identify(&self, mut chain: Chain, room: usize) -> Answer {
        let filled = chain.writable().write(self.serial.bytes());
        Answer::new(chain, Status::Ok, filled, room)
    }
}

/// Tells the log of the disk's first host error: a guest can repeat what fails, and start the device anew,
/// as often as it likes. Clones share what was said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaints(Arc<AtomicBool>);

impl Complaints {
    fn note(&self, result: &io::Result<()>) {
        match result {
            Err(error) if !self.0.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "the host failed a disk request: the guest gets I/O errors");
            }
            Err(error) => tracing::debug!(%error, "the host failed a disk request"),
            Ok(()) => {}
        }
    }
}
