//! What a device tells the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::{Event, Level, Metadata, Subscriber, span};

/// The lines of warnings and errors in the log of this process. For tests that are alone in theirs.
pub struct Warnings(Arc<AtomicUsize>);

impl Warnings {
    /// Counts them from now on, of all threads.
    ///
    /// # Panics
    /// When something else listens to the log already.
    pub fn listen() -> Self {
        let lines = Arc::default();
        let counter = Counter(Arc::clone(&lines));
        tracing::subscriber::set_global_default(counter).expect("nobody else listens to the log");
        Self(lines)
    }

    /// How many there were so far.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

struct Counter(Arc<AtomicUsize>);

impl Subscriber for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
