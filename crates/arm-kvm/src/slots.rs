//! Numbers of memory slots.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Which numbers of one machine's memory slots (KVM API 4.35) are in use.
#[derive(Debug, Default)]
pub(crate) struct Slots(Mutex<BTreeSet<u32>>);

impl Slots {
    /// The lowest number that nobody uses.
    pub(crate) fn take(&self) -> u32 {
        let mut used = self.lock();
        (0..).find(|number| used.insert(*number)).expect("KVM has fewer slots than numbers")
    }

    /// The slot is deleted: its number is free.
    pub(crate) fn give_back(&self, number: u32) {
        self.lock().remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_user_at_a_time() {
        let slots = Slots::default();
        assert_eq!([slots.take(), slots.take(), slots.take()], [0, 1, 2]);
        slots.give_back(1);
        assert_eq!([slots.take(), slots.take()], [1, 3]);
    }
}
