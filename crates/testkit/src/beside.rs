//! Two threads.

use std::sync::atomic::{AtomicBool, Ordering};

/// Ends the other thread, also when the body panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs `body`, and `again` on another thread, again and again as long as that takes.
pub(crate) fn beside<R>(mut again: impl FnMut() + Send, body: impl FnOnce() -> R) -> R {
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = End(&end);
        scope.spawn(|| {
            while !end.load(Ordering::SeqCst) {
                again();
            }
        });
        body()
    })
}
