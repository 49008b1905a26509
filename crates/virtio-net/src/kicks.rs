//! How often a driver has kicked, at no cost to anybody.

use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

/// Kicks of one queue: its eventfd is never read, neither by us nor by vhost-net, which wait for its edges
/// only. So it counts them itself, and Linux shows the count (proc_pid_fdinfo(5)).
#[derive(Debug, Default)]
pub(crate) struct Kicks(Mutex<Meter>);

#[derive(Debug, Default)]
struct Meter {
    /// At eventfds that were used before.
    before: u64,
    /// That of now, and what it had counted when it was not yet ours.
    now: Option<(EventFd, u64)>,
    /// What was counted once was not to be had.
    unknown: bool,
}

impl Kicks {
    /// Kicks arrive at this eventfd from now on.
    pub(crate) fn begin(&self, kick: &EventFd) {
        let mut meter = self.lock();
        meter.end();
        match (kick.try_clone(), counted(kick)) {
            (Ok(kick), Some(count)) => meter.now = Some((kick, count)),
            _ => meter.unknown = true,
        }
    }

    /// None do.
    pub(crate) fn end(&self) {
        self.lock().end();
    }

    /// All of them so far, if that is known.
    pub(crate) fn count(&self) -> Option<u64> {
        let meter = self.lock();
        let now = meter.since_begin()?;
        (!meter.unknown).then_some(meter.before + now)
    }

    /// Never taken for a frame.
    fn lock(&self) -> MutexGuard<'_, Meter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter {
    fn since_begin(&self) -> Option<u64> {
        let Some((kick, begin)) = &self.now else { return Some(0) };
        Some(counted(kick)?.saturating_sub(*begin))
    }

    fn end(&mut self) {
        match self.since_begin() {
            Some(count) => self.before += count,
            None => self.unknown = true,
        }
        self.now = None;
    }
}

/// What an eventfd has counted.
fn counted(eventfd: &EventFd) -> Option<u64> {
    let info =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", eventfd.as_raw_fd())).ok()?;
    let count = info.lines().find_map(|line| line.strip_prefix("eventfd-count:"))?;
    u64::from_str_radix(count.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eventfd_that_nobody_reads_counts_the_kicks_while_it_is_ours() {
        let (one, other) = (EventFd::new(0).unwrap(), EventFd::new(0).unwrap());
        let kicks = Kicks::default();
        assert_eq!(kicks.count(), Some(0));
        one.write(3).unwrap();
        kicks.begin(&one);
        (0..20).for_each(|_| one.write(1).unwrap());
        assert_eq!(kicks.count(), Some(20), "not those of before");
        kicks.end();
        one.write(1).unwrap();
        kicks.begin(&other);
        other.write(2).unwrap();
        assert_eq!(kicks.count(), Some(22));
    }
}
