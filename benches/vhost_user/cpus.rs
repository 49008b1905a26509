//! Who runs where.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The CPUs that there are, shared out. If there is one only, all have it.
pub(crate) struct Cpus {
    driver: CpuSet,
    daemons: CpuSet,
}

impl Cpus {
    /// Those that this thread may run on.
    pub(crate) fn of_this_thread() -> nix::Result<Self> {
        let mine = sched_getaffinity(Pid::from_raw(0))?;
        let mut all = (0..CpuSet::count()).filter(|cpu| mine.is_set(*cpu).unwrap_or_default());
        let first = all.next().unwrap_or_default();
        let (mut driver, mut daemons) = (CpuSet::new(), CpuSet::new());
        driver.set(first)?;
        daemons.set(all.next().unwrap_or(first))?;
        all.try_for_each(|cpu| daemons.set(cpu))?;
        Ok(Self { driver, daemons })
    }

    /// Does `start` where daemons run, which a process that it starts keeps to; the driver's place is this
    /// thread's afterwards.
    pub(crate) fn among_daemons<T>(&self, start: impl FnOnce() -> T) -> nix::Result<T> {
        let me = Pid::from_raw(0);
        sched_setaffinity(me, &self.daemons)?;
        let started = start();
        sched_setaffinity(me, &self.driver)?;
        Ok(started)
    }
}
