//! The data plane: one queue, its backend, and their thread.

use std::os::fd::AsFd;
use std::sync::Arc;

use cubie_virtio_core::{Features, Handler, QueueState, Source, Virtqueue};
use cubie_virtq::{Drained, Serve};

use crate::admission::Disk;
use crate::complaints::Complaints;
use crate::protocol::{F_DISCARD, F_FLUSH, F_WRITE_ZEROES};
use crate::request::Answer;
use crate::terms::Terms;
use crate::throttle::Pace;
use crate::{BlockBackend, Completion, Operation, Serial};

/// The driver's kick.
const KICK: u32 = 0;
/// The backend has finished something.
const FINISHED: u32 = 1;
/// What had to wait for the disk's limit may go on.
const TIMER: u32 = 2;

/// Once so much payload was served in one turn, other events come first: a device that is busy can
/// still be stopped.
const MOST_BYTES_A_TURN: usize = 16 << 20;

/// What it counts for in that when the disk itself is waited for, by a flush or a write that goes through.
const BYTES_A_FLUSH: usize = 1 << 20;

/// What all workers of a disk have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) features: Features,
    pub(crate) serial: Serial,
    pub(crate) terms: Arc<Terms>,
    pub(crate) complaints: Complaints,
}

#[derive(Debug)]
pub(crate) struct BlkHandler<B> {
    backend: B,
    queue: Virtqueue,
    common: Common,
    /// Where the disk has limits.
    pace: Option<Pace>,
}

impl<B: BlockBackend> BlkHandler<B> {
    pub(crate) fn new(backend: B, queue: Virtqueue, common: Common, pace: Option<Pace>) -> Self {
        Self { backend, queue, common, pace }
    }

    /// What outlives the worker, when nothing is in flight any more.
    pub(crate) fn park(mut self) -> (B, (u16, QueueState)) {
        while let Some(completion) = self.backend.wait() {
            self.push(completion);
        }
        self.queue.signal();
        (self.backend, (self.queue.index(), self.queue.state()))
    }

    /// Serves what the driver has made available.
    fn serve(&mut self) {
        let Self { backend, queue, common, pace } = self;
        let (read_only, complaints) = (backend.is_read_only(), &common.complaints);
        let mut left = MOST_BYTES_A_TURN;
        let mut paused = false;
        let end = queue.drain(|chain| {
            if left == 0 {
                return Serve::Stop(chain);
            }
            let answer = match common.disk(read_only).admit(chain) {
                Ok(mut request) => {
                    let (payload, operation) = (request.data().len(), request.operation());
                    if pace.as_mut().is_some_and(|pace| !pace.take(moves(operation, payload))) {
                        paused = true;
                        return Serve::Stop(request.give_back());
                    }
                    // Also of one that is kept a part may be done already.
                    left = left.saturating_sub(payload + waits(operation));
                    let Some(completion) = backend.submit(request) else {
                        return Serve::Later;
                    };
                    complaints.note(&completion.result);
                    completion.answer()
                }
                Err(answer) => answer,
            };
            Serve::Done(answer.chain, answer.written)
        });
        if end == Drained::Stopped && !paused {
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
        self.common.complaints.note(&completion.result);
        let Answer { chain, written } = completion.answer();
        self.queue.push(chain, written);
    }
}

impl<B: BlockBackend> Handler for BlkHandler<B> {
    fn sources(&self) -> Vec<Source> {
        let kick = Source::readable(self.queue.kick(), KICK);
        let finished = self.backend.ready_fd().map(|fd| Source::readable(&fd, FINISHED));
        let timer = self.pace.as_ref().map(|pace| Source::readable(&pace.timer.as_fd(), TIMER));
        [kick].into_iter().chain(finished).chain(timer).collect()
    }

    fn ready(&mut self, token: u32) {
        if token != FINISHED {
            self.serve();
        }
        self.collect();
    }
}

impl Common {
    /// What the next request is checked against. Looked at before each: it may change meanwhile.
    fn disk(&self, read_only: bool) -> Disk<'_> {
        // A driver that cannot flush expects every write to last (VIRTIO 1.4 §5.2.6.2).
        let through = !self.features.has(F_FLUSH) || !self.terms.writeback();
        Disk {
            size: self.terms.size(),
            read_only,
            through,
            discard: self.features.has(F_DISCARD),
            write_zeroes: self.features.has(F_WRITE_ZEROES),
            serial: &self.serial,
        }
    }
}

/// Bytes that count for the disk's limit. Zeros may have to be written.
fn moves(operation: Operation, payload: usize) -> usize {
    match operation {
        Operation::WriteZeroes { len, .. } => len as usize,
        _ => payload,
    }
}

/// In bytes of payload, beside those that the driver has sent.
fn waits(operation: Operation) -> usize {
    match operation {
        Operation::Flush | Operation::Write { through: true, .. } | Operation::Discard { .. } => {
            BYTES_A_FLUSH
        }
        // At most as many as the standard's limits have it: they may have to be written.
        Operation::WriteZeroes { len, .. } => BYTES_A_FLUSH + len as usize,
        Operation::Read { .. } | Operation::Write { .. } => 0,
    }
}
