//! Interrupts of a pair that wait for more to tell, and the timer that ends their waiting.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use cubie_virtio_core::{Clock, Source, Timer, Virtqueue};

use crate::coalescing::Moderation;

/// Sees to it that no interrupt of a pair's queues waits for too long.
#[derive(Debug)]
pub(crate) struct Pacer {
    clock: Arc<dyn Clock>,
    timer: Box<dyn Timer>,
    /// When the timer wakes, which may be earlier than anything is due.
    set: Option<Duration>,
    waits: [Wait; 2],
}

/// The interrupt of one queue.
#[derive(Debug, Default)]
struct Wait {
    /// How long it may wait.
    most: Duration,
    /// Which one waits, as its queue counts them, and since when.
    since: Option<(u32, Duration)>,
}

impl Pacer {
    /// Nothing waits at first.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let timer = clock.timer()?;
        Ok(Self { clock, timer, set: None, waits: Default::default() })
    }

    /// What wakes the handler, for [`Pacer::rang`].
    pub(crate) fn source(&self, token: u32) -> Source {
        Source::readable(&self.timer.as_fd(), token)
    }

    /// From now on the driver wants this of the two queues. What has waited for too long by it, or is too much,
    /// is told at once.
    pub(crate) fn obey(&mut self, mut queues: [&mut Virtqueue; 2], moderations: [Moderation; 2]) {
        for ((wait, queue), new) in self.waits.iter_mut().zip(&mut queues).zip(moderations) {
            queue.hold_interrupts(new.until());
            wait.most = new.delay();
        }
        self.look(queues);
    }

    /// The timer has woken the handler.
    pub(crate) fn rang(&mut self) {
        self.set = None;
    }

    /// The queues were served: what is due is told, and the timer set for what is not.
    pub(crate) fn look(&mut self, queues: [&mut Virtqueue; 2]) {
        let Self { clock, timer, set, waits } = self;
        let dues =
            waits.iter_mut().zip(queues).filter_map(|(wait, queue)| wait.look(queue, &**clock));
        // A timer that wakes too early costs less than one that is set for each interrupt.
        if let Some(due) = dues.min()
            && set.is_none_or(|set| due < set)
        {
            timer.set(due);
            *set = Some(due);
        }
    }
}

impl Wait {
    /// Tells what is due. When what is left will be.
    fn look(&mut self, queue: &mut Virtqueue, clock: &dyn Clock) -> Option<Duration> {
        let Some(number) = queue.untold() else {
            self.since = None;
            return None;
        };
        let now = clock.now();
        let (_, since) = *match &mut self.since {
            Some(same) if same.0 == number => same,
            other => other.insert((number, now)),
        };
        let due = since + self.most;
        if due <= now {
            queue.tell();
            self.since = None;
            return None;
        }
        Some(due)
    }
}
