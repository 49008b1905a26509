//! What goes wrong when.

use std::fmt;
use std::iter;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::Fault;
use crate::garbage::Random;

/// A plan of faults, for one or more host ends: by a script, or by a seed. Clones are the same plan.
///
/// Each call of a host end takes the plan's next entry, so that the same calls fail in the same way. It
/// counts the calls and keeps what it has injected: put it into the messages of your assertions.
///
/// ```
/// use cubie_testkit::{Errno, Fault, Faults, Injected};
///
/// let fault = Fault::Error(Errno::NOSPC);
/// let faults = Faults::script([None, Some(fault)]);
/// let met: Vec<_> = ["write", "write", "flush"].map(|call| faults.next(call)).into();
/// assert_eq!(met, [None, Some(fault), None]);
/// assert_eq!(faults.injected(), [Injected { call: 1, operation: "write", fault }]);
/// assert_eq!(faults.calls(), 3);
/// ```
#[derive(Clone)]
pub struct Faults(Arc<Shared>);

/// What a plan did to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injected {
    /// Calls before this one.
    pub call: u64,
    /// What was called.
    pub operation: &'static str,
    /// What went wrong.
    pub fault: Fault,
}

struct Shared {
    plan: Mutex<Plan>,
    /// Written when a host end is ready again.
    ready: OwnedFd,
}

struct Plan {
    entries: Box<dyn Iterator<Item = Option<Fault>> + Send>,
    dead: bool,
    calls: u64,
    injected: Vec<Injected>,
}

impl Faults {
    /// The entries, one a call, and nothing more after them.
    pub fn script(
        entries: impl IntoIterator<Item = Option<Fault>, IntoIter: Send + 'static>,
    ) -> Self {
        let entries = Box::new(entries.into_iter());
        let plan = Mutex::new(Plan { entries, dead: false, calls: 0, injected: vec![] });
        let ready = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Self(Arc::new(Shared { plan, ready: ready.expect("an eventfd for the faults") }))
    }

    /// Nothing goes wrong: for counting.
    pub fn none() -> Self {
        Self::script([])
    }

    /// The next calls all fail in the same way, `times` of them.
    pub fn storm(fault: Fault, times: usize) -> Self {
        Self::script(iter::repeat_n(Some(fault), times))
    }

    /// On average one call of `one_in` fails, in one of the ways of `kinds`, until [`Faults::off`]. The
    /// same seed makes the same plan.
    ///
    /// # Panics
    /// When `kinds` is empty, or `one_in` is less than 2: a host end that never serves has no end.
    pub fn seeded(seed: u64, one_in: u64, kinds: &[Fault]) -> Self {
        assert!(one_in > 1 && !kinds.is_empty(), "some calls have to fail, and some not");
        let (mut random, kinds) = (Random(seed), kinds.to_vec());
        Self::script(iter::from_fn(move || {
            let fails = random.below(one_in) == 0;
            Some(fails.then(|| kinds[random.below(kinds.len() as u64) as usize]))
        }))
    }

    /// What happens to the next call, which is of `operation`. For host ends of your own, where there is no
    /// [`Faulty`](crate::Faulty).
    pub fn next(&self, operation: &'static str) -> Option<Fault> {
        let mut plan = self.lock();
        let call = plan.calls;
        plan.calls += 1;
        if plan.dead {
            return Some(Fault::Death);
        }
        let fault = plan.entries.next().flatten()?;
        plan.dead = fault == Fault::Death;
        plan.injected.push(Injected { call, operation, fault });
        Some(fault)
    }

    /// From now on nothing goes wrong, and who was dead serves again.
    pub fn off(&self) {
        let mut plan = self.lock();
        plan.entries = Box::new(iter::empty());
        plan.dead = false;
        self.wake();
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// What went wrong so far. Of a death there is the first call only.
    pub fn injected(&self) -> Vec<Injected> {
        self.lock().injected.clone()
    }

    /// Becomes readable, for edge-triggered epoll, whenever a host end of this plan is ready again.
    pub fn ready_fd(&self) -> BorrowedFd<'_> {
        self.0.ready.as_fd()
    }

    /// A host end is ready again.
    pub fn wake(&self) {
        // The counter cannot overflow by ones.
        let _ = rustix::io::write(&self.0.ready, &1u64.to_ne_bytes());
    }

    pub(super) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// A call at which nothing can go wrong.
    pub(super) fn count(&self) {
        self.lock().calls += 1;
    }

    /// A plan is whole between two calls, even when one of them has panicked.
    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.0.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.lock();
        let mut faults = f.debug_struct("Faults");
        faults.field("calls", &plan.calls).field("dead", &plan.dead);
        faults.field("injected", &plan.injected).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    const KINDS: [Fault; 3] = [Fault::Error(Errno::IO), Fault::Short, Fault::Late(2)];

    fn met(faults: &Faults, calls: usize) -> Vec<Option<Fault>> {
        (0..calls).map(|_| faults.next("call")).collect()
    }

    #[test]
    fn a_seed_repeats_itself_and_another_one_does_not() {
        let [one, again, other] = [7, 7, 8].map(|seed| met(&Faults::seeded(seed, 3, &KINDS), 300));
        assert!(one == again && one != other);
        let hit = one.iter().flatten().count();
        assert!((50..150).contains(&hit), "{hit} of 300 calls at one in three");
        assert!(KINDS.iter().all(|kind| one.contains(&Some(*kind))));
    }

    #[test]
    fn a_storm_is_over_when_it_is_over() {
        let faults = Faults::storm(Fault::Short, 3);
        assert_eq!(met(&faults, 5), [[Some(Fault::Short); 3].as_slice(), &[None; 2]].concat());
    }

    #[test]
    fn the_dead_stay_dead_until_it_is_all_off() {
        let faults = Faults::script([None, Some(Fault::Death)]);
        let dead = Some(Fault::Death);
        assert_eq!(met(&faults, 4), [None, dead, dead, dead]);
        assert_eq!((faults.calls(), faults.injected().len()), (4, 1));
        faults.off();
        assert_eq!(met(&faults, 1), [None]);
    }
}
