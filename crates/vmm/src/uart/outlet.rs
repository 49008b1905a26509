//! Output that never holds a vCPU up for long.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes that may wait for a slow reader.
const CAPACITY: usize = 0x1_0000;

/// How long a vCPU waits for room, once: a reader slower than that loses what does not fit.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Pipe {
    waiting: Vec<u8>,
    /// The thread is busy with bytes that it has taken.
    writing: bool,
    /// Somebody has waited for room in vain, and the thread has not moved since.
    stalled: bool,
    /// Nobody will push any more.
    closed: bool,
    /// Nobody will ever read again.
    broken: bool,
}

impl Pipe {
    fn full(&self) -> bool {
        self.waiting.len() >= CAPACITY && !self.broken
    }

    fn busy(&self) -> bool {
        self.writing || !self.waiting.is_empty()
    }
}

#[derive(Default)]
struct Shared {
    pipe: Mutex<Pipe>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pipe> {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits at most [`PATIENCE`] for `condition` to end.
    fn wait_while<'a>(
        &self,
        pipe: MutexGuard<'a, Pipe>,
        condition: impl Fn(&Pipe) -> bool,
    ) -> MutexGuard<'a, Pipe> {
        let waited = self.changed.wait_timeout_while(pipe, PATIENCE, |p| condition(p));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A writer behind a bounded buffer, served by a thread of its own.
pub(super) struct Outlet(Arc<Shared>);

impl Outlet {
    pub(super) fn new(output: Box<dyn Write + Send>) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let thread = Arc::clone(&shared);
        thread::Builder::new().name("uart".into()).spawn(move || pump(&thread, output))?;
        Ok(Self(shared))
    }

    pub(super) fn push(&self, byte: u8) {
        let mut pipe = self.0.lock();
        if pipe.full() && !pipe.stalled {
            pipe = self.0.wait_while(pipe, Pipe::full);
            if pipe.full() {
                pipe.stalled = true;
                tracing::warn!("nobody takes the serial console's output: some of it is lost");
            }
        }
        if pipe.waiting.len() < CAPACITY && !pipe.broken {
            pipe.waiting.push(byte);
            self.0.changed.notify_all();
        }
    }

    /// Waits until everything is written, as long as [`PATIENCE`] lasts.
    pub(super) fn flush(&self) {
        drop(self.0.wait_while(self.0.lock(), Pipe::busy));
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
        // A thread that is stuck in a write ends with it, or with the process.
        self.flush();
    }
}

/// The thread: takes all that waits at once, so that a byte at a time becomes a write at a time.
fn pump(shared: &Shared, mut output: Box<dyn Write + Send>) {
    let mut batch = Vec::new();
    loop {
        let mut pipe = shared.lock();
        pipe.writing = false;
        pipe.stalled = false;
        shared.changed.notify_all();
        let idle = |pipe: &mut Pipe| pipe.waiting.is_empty() && !pipe.closed;
        let waited = shared.changed.wait_while(pipe, idle);
        pipe = waited.unwrap_or_else(PoisonError::into_inner);
        if pipe.waiting.is_empty() {
            return; // closed, and all is written
        }
        batch.clear();
        std::mem::swap(&mut batch, &mut pipe.waiting);
        pipe.writing = true;
        drop(pipe);
        if let Err(error) = output.write_all(&batch).and_then(|()| output.flush()) {
            tracing::warn!("the serial console's output ends: {error}");
            let mut pipe = shared.lock();
            (pipe.broken, pipe.writing) = (true, false);
            pipe.waiting.clear();
            shared.changed.notify_all();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Instant;

    use super::*;

    /// A reader that takes one batch for each permit.
    struct Slow(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_pushed_is_written_before_the_outlet_is_gone() {
        let (permit, permits) = channel();
        let read = Arc::<Mutex<Vec<u8>>>::default();
        let outlet = Outlet::new(Box::new(Slow(permits, Arc::clone(&read)))).unwrap();
        (0..200).for_each(|_| permit.send(()).unwrap());
        (0..100).for_each(|byte| outlet.push(byte));
        drop(outlet);
        assert_eq!(*read.lock().unwrap(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_reader_that_is_stuck_costs_one_wait_and_bounded_memory() {
        let (_permit, permits) = channel();
        let outlet = Outlet::new(Box::new(Slow(permits, Arc::default()))).unwrap();
        let begin = Instant::now();
        (0..3 * CAPACITY).for_each(|_| outlet.push(b'x'));
        assert!(outlet.0.lock().waiting.len() <= CAPACITY);
        let took = begin.elapsed();
        assert!(took >= PATIENCE, "the bytes were not even offered");
        assert!(took < 3 * PATIENCE, "each byte waits anew: {took:?}");
    }

    #[test]
    fn a_reader_that_is_gone_costs_nothing() {
        let (permit, permits) = channel();
        let outlet = Outlet::new(Box::new(Slow(permits, Arc::default()))).unwrap();
        drop(permit);
        outlet.push(b'x');
        outlet.flush();
        let begin = Instant::now();
        (0..3 * CAPACITY).for_each(|_| outlet.push(b'x'));
        outlet.flush();
        assert!(begin.elapsed() < PATIENCE);
        assert!(outlet.0.lock().waiting.is_empty());
    }
}
