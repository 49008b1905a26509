//! Processor time of threads.

use std::time::Duration;

/// How long a thread has run, from its `/proc/…/schedstat` (Linux, Documentation/scheduler/sched-stats.rst).
pub fn run_time(schedstat: &str) -> Option<Duration> {
    schedstat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(run_time("1234567 890 12\n"), Some(Duration::from_nanos(1_234_567)));
        assert_eq!((run_time(""), run_time("x 2")), (None, None));
    }
}
