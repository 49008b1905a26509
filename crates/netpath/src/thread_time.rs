//! Processor time of threads.

use std::ops::Add;

/// How long threads have run, and how long they had to wait for a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadTime {
    /// Nanoseconds on a processor.
    pub run: u64,
    /// Nanoseconds ready, without one.
    pub wait: u64,
}

impl ThreadTime {
    /// Of a thread, from its `/proc/…/schedstat` (Linux, Documentation/scheduler/sched-stats.rst).
    pub fn parse(schedstat: &str) -> Option<Self> {
        let mut numbers = schedstat.split_whitespace().map(str::parse);
        Some(Self { run: numbers.next()?.ok()?, wait: numbers.next()?.ok()? })
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        // Threads that have ended meanwhile are not in it any more.
        let (run, wait) =
            (self.run.saturating_sub(earlier.run), self.wait.saturating_sub(earlier.wait));
        Self { run, wait }
    }
}

impl Add for ThreadTime {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { run: self.run + other.run, wait: self.wait + other.wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        let time = ThreadTime { run: 1_234_567, wait: 890 };
        assert_eq!(ThreadTime::parse("1234567 890 12\n"), Some(time));
        assert_eq!(ThreadTime::parse(""), None);
        assert_eq!(ThreadTime::parse("1 x 2"), None);
        assert_eq!((time + time).since(time), time);
        assert_eq!(ThreadTime::default().since(time), ThreadTime::default());
    }
}
