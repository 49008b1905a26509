//! Work on all CPUs.

use std::sync::Mutex;
use std::thread;

/// As many as the smallest machine of CI has CPUs.
const AT_ONCE: usize = 2;

/// Does the jobs, two at a time, and returns what they came to in their order.
pub(crate) fn at_once<T: Sync, R: Send>(jobs: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (left, done) = (Mutex::new(jobs.iter().enumerate()), Mutex::new(vec![]));
    let next = || left.lock().expect("no panic").next();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((n, job)) = next() {
                    let result = work(job);
                    done.lock().expect("no panic").push((n, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no panic");
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn two_jobs_run_at_once_and_their_results_are_in_order() {
        let both = Barrier::new(AT_ONCE);
        let results = at_once(&[3, 1, 2, 0], |job| {
            both.wait();
            job * 10
        });
        assert_eq!(results, [30, 10, 20, 0]);
    }
}
