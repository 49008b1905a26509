//! Two threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

/// Ends the other thread, also when the body panics.
struct End<'a>(&'a AtomicBool, Thread);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let Self(end, other) = self;
        end.store(true, Ordering::SeqCst);
        other.unpark();
    }
}

/// Runs `body`, and `again` on another thread, again and again as long as that takes. `again` may park.
pub(crate) fn beside<R>(mut again: impl FnMut() + Send, body: impl FnOnce() -> R) -> R {
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            while !end.load(Ordering::SeqCst) {
                again();
            }
        });
        let _end = End(&end, other.thread().clone());
        body()
    })
}
