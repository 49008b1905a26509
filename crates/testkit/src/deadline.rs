//! Tests that fail instead of hanging.

use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Runs the body of a test on a thread of its own and returns what it returns.
///
/// # Panics
/// When `body` panics, or has not ended at the deadline. Its thread is then left behind: a driver that
/// spins cannot be stopped.
#[track_caller]
pub fn within<R: Send + 'static>(
    deadline: Duration,
    body: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (done, wait) = channel();
    let name = thread::current().name().unwrap_or("within").to_owned();
    let thread = thread::Builder::new().name(name).spawn(move || {
        let result = body();
        // Nobody listens after the deadline.
        let _ = done.send(());
        result
    });
    let thread = thread.expect("a thread for the test");
    if wait.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout) {
        panic!("not done after {deadline:?}");
    }
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_returns_its_value() {
        assert_eq!(within(Duration::from_secs(10), || 7), 7);
    }

    #[test]
    #[should_panic(expected = "the body's own")]
    fn a_panic_is_the_bodys_own() {
        within(Duration::from_secs(10), || panic!("the body's own"));
    }

    #[test]
    #[should_panic(expected = "not done after 1ms")]
    fn a_body_that_never_ends_fails() {
        within(Duration::from_millis(1), || {
            loop {
                thread::park();
            }
        });
    }
}
